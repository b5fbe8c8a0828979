"""A model with fewer rows of the word table, for a tokenizer that has lost pieces."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from minidistil.config.encoder_decoder import EncoderDecoderConfig
from minidistil.config.vit import VISION
from minidistil.model.model import Model

ROWS = ("embeddings.word.weight", "decoder.bias")  # by their first axis, the vocabulary


def with_words(model: Model, kept: Sequence[int]) -> Model:
    """The model with the rows `kept` (n,) of its word table, and of the bias over the vocabulary.

    Token ids in its config become those of the new rows. Raises ValueError for a model without a
    word table of its own, and where RoBERTa's padding would move, from which positions are counted.
    """
    config = model.config
    if config.model_type in VISION or isinstance(config, EncoderDecoderConfig):
        raise ValueError(
            f"words are removed from an encoder or a GPT-2, not from a {config.model_type}; give "
            f"one of these"
        )
    new = {int(old): i for i, old in enumerate(kept)}
    ids = {
        field.name: _renumbered(getattr(config, field.name), new)
        for field in dataclasses.fields(config)
        if field.name.endswith("token_id")
    }
    padding = config.architecture.padding_position
    if padding is not None and ids["pad_token_id"] != padding:
        raise ValueError(
            f"positions are counted from pad_token_id {padding}, which would become "
            f"{ids['pad_token_id']}; keep all {padding} pieces before it"
        )
    roles, rows = model.named_by_role(), np.asarray(kept)
    roles |= {name: roles[name][rows] for name in ROWS if name in roles}
    smaller = dataclasses.replace(config, vocab_size=len(rows), **ids)
    pruned = model.like(smaller, roles, model.ops)
    ends = _renumbered(model.generation.eos_token_id, new)
    pruned.generation = dataclasses.replace(model.generation, eos_token_id=ends)
    return pruned


def _renumbered(ids, new):
    """An id, several, or None  ->  the same with the ids of the new rows; None for a lost one."""
    if isinstance(ids, tuple):
        return tuple(new[i] for i in ids if i in new) or None
    return new.get(ids)
