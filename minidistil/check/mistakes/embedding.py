"""Mistakes in the embeddings: positions, token types, scale."""

import math

import numpy as np

from minidistil.check import right
from minidistil.check.catalogue import mistake

RIGHT = "x = word[id] + position[0, 1, 2, …] (+ type[type] for BERT)"


@mistake(
    "position-offset", "embedding_sum", values=(1, 2),
    says="Positions start at {}, not at 0.",
    yours="x = word[id] + position[column + {}]", right=RIGHT,
    fix="torch.arange(T); an offset of 2 belongs to RoBERTa",
)  # fmt: skip
def position_offset(word, position, kind=None, *, ids, types=None, value):
    rows = np.arange(len(position)) + value
    moved = position[np.minimum(rows, len(position) - 1)]
    return right.embedding_sum(word, moved, kind, ids=ids, types=types)


@mistake(
    "position-missing", "embedding_sum",
    says="The position embeddings are not added.",
    yours="x = word[id]", right=RIGHT, fix="add position_embeddings(torch.arange(T))",
)  # fmt: skip
def position_missing(word, position, kind=None, *, ids, types=None):
    return right.embedding_sum(word, 0 * position, kind, ids=ids, types=types)


@mistake(
    "token-type-missing", "embedding_sum", values=("left out", "always type 0"),
    says="The token types are {}.",
    yours="x = word[id] + position[column], types {}", right=RIGHT,
    fix="add token_type_embeddings(token_type_ids); without ids BERT takes type 0, not nothing",
)  # fmt: skip
def token_type_missing(word, position, kind=None, *, ids, types=None, value):
    if kind is None:
        return right.embedding_sum(word, position, ids=ids)
    kind = 0 * kind if value == "left out" else kind
    return right.embedding_sum(word, position, kind, ids=ids, types=0 * ids)


@mistake(
    "token-type-unexpected", "embedding_sum", values=lambda known: ("always type 1", *known.added),
    says="A token type is added that the model does not have, or not for this batch.",
    yours="x = word[id] + position[column] + one vector more", right=RIGHT,
    fix="DistilBERT has no token types: leave the table out; BERT takes them from the batch",
)  # fmt: skip
def token_type_unexpected(word, position, kind=None, *, ids, types=None, value):
    if not isinstance(value, str):
        return right.embedding_sum(word, position, kind, ids=ids, types=types) + value
    types = None if kind is None else np.full_like(ids, len(kind) - 1)
    return right.embedding_sum(word, position, kind, ids=ids, types=types)


@mistake(
    "embedding-scaled", "embedding_sum", values=("the words", "the sum"),
    says="The embeddings are multiplied by √C ({}).",
    yours="x = √C·word[id] + position[column]", right=RIGHT,
    fix="no factor: √C belongs to the first Transformer (Vaswani et al., 2017, §3.4)",
)  # fmt: skip
def embedding_scaled(word, position, kind=None, *, ids, types=None, value):
    root = math.sqrt(word.shape[1])
    if value == "the sum":
        return root * right.embedding_sum(word, position, kind, ids=ids, types=types)
    return right.embedding_sum(root * word, position, kind, ids=ids, types=types)
