"""Small models in folders, with weights that no two parameters share."""

import numpy as np

import minidistil as md
from minidistil.config import (
    BertDecoderConfig,
    DeitConfig,
    DistilBertConfig,
    EncoderDecoderConfig,
    Gpt2Config,
    VitConfig,
)

CONFIG = md.DistilBertConfig(
    vocab_size=40, dim=12, n_layers=2, n_heads=3, hidden_dim=20, max_position_embeddings=16
)
BERT = md.BertConfig(
    vocab_size=40, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
    intermediate_size=20, max_position_embeddings=16, num_labels=3,
)  # fmt: skip
ROBERTA = md.RobertaConfig(
    vocab_size=40, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
    intermediate_size=20, max_position_embeddings=18, num_labels=3,
)  # fmt: skip
ALBERT = md.AlbertConfig(
    vocab_size=40, embedding_size=8, hidden_size=12, num_hidden_layers=3, num_hidden_groups=2,
    num_attention_heads=3, intermediate_size=20, max_position_embeddings=16, num_labels=3,
)  # fmt: skip
GPT2 = Gpt2Config(
    vocab_size=40, n_positions=16, n_embd=12, n_layer=2, n_head=3, n_inner=20, bos_token_id=1,
    eos_token_id=1,
)  # fmt: skip
PAIR = EncoderDecoderConfig(
    encoder=BERT,
    decoder=BertDecoderConfig(
        vocab_size=30, hidden_size=12, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=20, max_position_embeddings=12,
    ),
    decoder_start_token_id=2, eos_token_id=3,
)  # fmt: skip
PROJECTED = EncoderDecoderConfig(
    encoder=DistilBertConfig(
        vocab_size=40, dim=8, n_layers=2, n_heads=2, hidden_dim=20, max_position_embeddings=16
    ),
    decoder=PAIR.decoder, decoder_start_token_id=2, eos_token_id=3,
)  # fmt: skip
SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 20, "image_size": 6, "patch_size": 2, "num_channels": 2,
         "num_labels": 4}  # fmt: skip
VIT, DEIT = VitConfig(**SIZES), DeitConfig(**SIZES)
CASES = {  # the families beside encoders of texts
    "gpt2": (GPT2, "text-generation"), "gpt2-body": (GPT2, "feature-extraction"),
    "pair": (PAIR, "translation"), "pair-projected": (PROJECTED, "summarization"),
    "vit": (VIT, "image-classification"), "deit": (DEIT, "image-classification"),
    "vit-body": (VIT, "feature-extraction"),
}  # fmt: skip


def saved(model, folder, seed=0, size=0.3):
    """The model with random γ, β and biases, in a folder."""
    rng = np.random.default_rng(seed)
    model.update({
        name: (p + size * rng.normal(size=p.shape)).astype(np.float32)
        for name, p in model.params.items()
    })  # fmt: skip
    model.save_pretrained(folder)
    return folder


def saved_each(models, home):
    """{name: (config, task)}  ->  {name: the folder of such a model}."""
    return {
        name: saved(md.from_config(config, task=task), home / name)
        for name, (config, task) in models.items()
    }
