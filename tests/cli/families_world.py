"""Folders of the families whose tokenizers are not WordPiece: a model of random weights with its
tokenizer, as `from_pretrained` and the pipelines read them."""

import numpy as np
from toy_tokenizers import byte_pairs, unigrams

import minidistil as md

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip
FAMILIES = {"roberta": (md.RobertaConfig, byte_pairs), "albert": (md.AlbertConfig, unigrams)}


def family_folder(name, folder, task="fill-mask", positions=64):
    """Saves a model for the task, none of whose numbers is 0 or 1."""
    config, tokenizer = FAMILIES[name]
    tokenizer = tokenizer(max_length=positions)
    rows = positions + (tokenizer.pad_id + 1) * (name == "roberta")
    config = config(vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id,
                    max_position_embeddings=rows, **SIZES)  # fmt: skip
    model, rng = md.from_config(config, task), np.random.default_rng(0)
    model.update({n: p + rng.normal(0, 0.1, p.shape) for n, p in model.params.items()})
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder
