"""Mistakes in the embeddings: positions, token types, scale."""

import math

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake

RIGHT = "x = word[id] + position[0, 1, 2, …] (RoBERTa: from 2 on; BERT: + type[type])"


@mistake(
    "position-offset", "embedding_sum", values=(1, 2, 0),
    says="Positions start at row {} of their table.",
    yours="x = word[id] + position[column + {}]", right=RIGHT,
    fix="rows 0, 1, …, T − 1; RoBERTa alone, whose padding is id 1, starts at row 2",
)  # fmt: skip
def position_offset(word, position, kind=None, *, ids, types=None, first=0, value):
    rows = np.arange(len(position)) - first + value
    moved = position[np.clip(rows, 0, len(position) - 1)]
    return reference_ops.embedding_sum(word, moved, kind, ids=ids, types=types, first=first)


@mistake(
    "position-missing", "embedding_sum",
    says="The position embeddings are not added.",
    yours="x = word[id]", right=RIGHT, fix="add rows 0, 1, …, T − 1 of the position table",
)  # fmt: skip
def position_missing(word, position, kind=None, *, ids, types=None, first=0):
    return reference_ops.embedding_sum(word, 0 * position, kind, ids=ids, types=types, first=first)


@mistake(
    "token-type-missing", "embedding_sum", values=("left out", "always type 0"),
    says="The token types are {}.",
    yours="x = word[id] + position[column], types {}", right=RIGHT,
    fix="add the row of each token's type; without token_type_ids BERT uses type 0",
)  # fmt: skip
def token_type_missing(word, position, kind=None, *, ids, types=None, first=0, value):
    if kind is None:
        return reference_ops.embedding_sum(word, position, ids=ids, first=first)
    kind = 0 * kind if value == "left out" else kind
    return reference_ops.embedding_sum(word, position, kind, ids=ids, types=0 * ids, first=first)


@mistake(
    "token-type-unexpected", "embedding_sum", values=lambda known: ("always type 1", *known.added),
    says="A token type is added that the model or this batch does not have.",
    yours="x = word[id] + position[column] + one vector more", right=RIGHT,
    fix="DistilBERT has no token types: leave the table out; BERT takes them from the batch",
)  # fmt: skip
def token_type_unexpected(word, position, kind=None, *, ids, types=None, first=0, value):
    if not isinstance(value, str):
        return (
            reference_ops.embedding_sum(word, position, kind, ids=ids, types=types, first=first)
            + value
        )
    types = None if kind is None else np.full_like(ids, len(kind) - 1)
    return reference_ops.embedding_sum(word, position, kind, ids=ids, types=types, first=first)


@mistake(
    "embedding-scaled", "embedding_sum", values=("the words", "the sum"),
    says="The embeddings are multiplied by √C ({}).",
    yours="x = √C·word[id] + position[column]", right=RIGHT,
    fix="no factor: √C belongs to the first Transformer (Vaswani et al., 2017, §3.4)",
)  # fmt: skip
def embedding_scaled(word, position, kind=None, *, ids, types=None, first=0, value):
    root = math.sqrt(word.shape[1])
    if value == "the sum":
        return root * reference_ops.embedding_sum(
            word, position, kind, ids=ids, types=types, first=first
        )
    return reference_ops.embedding_sum(
        root * word, position, kind, ids=ids, types=types, first=first
    )
