"""Checkpoint names of the parameters: one table a family.

A table maps a role inside a block, or a head's role, to the name in a Hugging Face checkpoint.
"""

import re
from collections.abc import Iterable

from minidistil.config.base import BaseConfig

BLOCK_BERT = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "cross_q": "crossattention.self.query",  # of an encoder–decoder's decoder
    "cross_k": "crossattention.self.key",
    "cross_v": "crossattention.self.value",
    "cross_out": "crossattention.output.dense",
    "cross_norm": "crossattention.output.LayerNorm",
    "lin1": "intermediate.dense",
    "lin2": "output.dense",
    "output_norm": "output.LayerNorm",
}
BLOCK_DISTILBERT = {
    "q": "attention.q_lin",
    "k": "attention.k_lin",
    "v": "attention.v_lin",
    "out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "lin1": "ffn.lin1",
    "lin2": "ffn.lin2",
    "output_norm": "output_layer_norm",
}
BLOCK_ALBERT = {
    "q": "attention.query",
    "k": "attention.key",
    "v": "attention.value",
    "out": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "lin1": "ffn",
    "lin2": "ffn_output",
    "output_norm": "full_layer_layer_norm",
}
BLOCK_GPT2 = {
    "attention_norm": "ln_1",
    "qkv": "attn.c_attn",
    "out": "attn.c_proj",
    "ffn_norm": "ln_2",
    "lin1": "mlp.c_fc",
    "lin2": "mlp.c_proj",
}
TRANSPOSED = ("qkv", "out", "lin1", "lin2")  # GPT-2's Conv1D: stored (in,out), computed (out,in)
EMBEDDINGS_GPT2 = {"embeddings.word": "wte", "embeddings.position": "wpe", "final_norm": "ln_f"}
EMBEDDINGS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.mapping": "encoder.embedding_hidden_mapping_in",
}
BODY = {  # {model type: (prefix of the body, prefix of block i, names inside a block)}
    "bert": ("bert.", "encoder.layer.{i}.", BLOCK_BERT),
    "roberta": ("roberta.", "encoder.layer.{i}.", BLOCK_BERT),
    "distilbert": ("distilbert.", "transformer.layer.{i}.", BLOCK_DISTILBERT),
    "albert": (
        "albert.",
        "encoder.albert_layer_groups.{group}.albert_layers.{inner}.",
        BLOCK_ALBERT,
    ),
    "gpt2": ("transformer.", "h.{i}.", BLOCK_GPT2),
}
HEADS = {
    "bert": {
        "pooler": "bert.pooler.dense",
        "classifier": "classifier",
        "spans": "qa_outputs",
        "nsp": "cls.seq_relationship",
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions",
    },
    "roberta": {
        "pooler": "roberta.pooler.dense",
        "dense": "classifier.dense",
        "out_proj": "classifier.out_proj",
        "classifier": "classifier",
        "spans": "qa_outputs",
        "transform": "lm_head.dense",
        "transform_norm": "lm_head.layer_norm",
        "decoder": "lm_head",
    },
    "albert": {
        "pooler": "albert.pooler",
        "classifier": "classifier",
        "spans": "qa_outputs",
        "nsp": "sop_classifier.classifier",
        "transform": "predictions.dense",
        "transform_norm": "predictions.LayerNorm",
        "decoder": "predictions",
    },
    "distilbert": {
        "pooler": "pre_classifier",
        "classifier": "classifier",
        "spans": "qa_outputs",
        "transform": "vocab_transform",
        "transform_norm": "vocab_layer_norm",
        "decoder": "vocab_projector",
    },
    "gpt2": {},
}
# Copies of tied parameters that a checkpoint may contain: {checkpoint name: canonical name}
TIED = {
    "bert": {
        "cls.predictions.decoder.weight": "embeddings.word.weight",
        "cls.predictions.decoder.bias": "decoder.bias",
    },
    "roberta": {
        "lm_head.decoder.weight": "embeddings.word.weight",
        "lm_head.decoder.bias": "decoder.bias",
    },
    "albert": {
        "predictions.decoder.weight": "embeddings.word.weight",
        "predictions.decoder.bias": "decoder.bias",
    },
    "distilbert": {"vocab_projector.weight": "embeddings.word.weight"},
    "gpt2": {"lm_head.weight": "embeddings.word.weight"},
}
# Constant buffers of older checkpoints: position ids, token type ids, GPT-2's causal masks
BUFFERS = re.compile(r"embeddings\.(position_ids|token_type_ids)|h\.\d+\.attn\.(bias|masked_bias)")


def checkpoint_name(canonical: str, config: BaseConfig) -> str:
    """`layer.0.q.weight`  ->  `bert.encoder.layer.0.attention.self.query.weight`."""
    prefix, block_prefix, block = BODY[config.model_type]
    role, _, kind = canonical.rpartition(".")
    embeddings = EMBEDDINGS_GPT2 if config.model_type == "gpt2" else EMBEDDINGS
    if role in embeddings:
        return f"{prefix}{embeddings[role]}.{kind}"
    if role.startswith("layer."):
        _, i, part = role.split(".")
        group, inner = divmod(int(i), getattr(config, "inner_group_num", 1))
        return f"{prefix}{block_prefix.format(i=i, group=group, inner=inner)}{block[part]}.{kind}"
    return f"{HEADS[config.model_type][role]}.{kind}"


def public_names(canonical_names: Iterable[str], config: BaseConfig, task: str) -> dict[str, str]:
    """{canonical name: name in `params` and in a saved file}; a bare body has no prefix."""
    prefix = BODY[config.model_type][0]
    names = {c: checkpoint_name(c, config) for c in canonical_names}
    if task in ("feature-extraction", "sentence-embedding"):
        names = {c: n.removeprefix(prefix) for c, n in names.items()}
    return names


def is_transposed(canonical: str, config: BaseConfig) -> bool:
    """Whether `params`, gradients and files store this matrix transposed (GPT-2's Conv1D)."""
    role, _, kind = canonical.rpartition(".")
    last = role.rpartition(".")[2]
    return config.model_type == "gpt2" and kind == "weight" and last in TRANSPOSED
