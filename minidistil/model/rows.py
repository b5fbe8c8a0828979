"""No padding inside: a padded batch (B,T) becomes N rows, one for each real token.

    input_ids        attention_mask        rows                    bounds
    a b c 0          1 1 1 0               a b c d e               0 3 5
    d e 0 0          1 1 0 0

The embeddings, the blocks and the heads compute on rows; `Rows.scatter` returns their results to
(B,T,…), with zeros at the padding. A token's position is its column in the batch, so the mask may
have holes or padding on the left. RoBERTa counts positions: a token's is the number of ids up to
its own that are not the padding id, plus the padding id. Padding has a position as well, the
padding id; attention_mask is not used.

    input_ids        RoBERTa's positions with padding id 1
    a b 1 c 1        2 3 1 4 1
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from minidistil.config.base import Architecture
from minidistil.ops.runtime.dropout_key import DropoutKey


class Rows(NamedTuple):
    """The real tokens of a batch."""

    ids: np.ndarray  # (N,)
    types: np.ndarray  # (N,)
    sequence: np.ndarray  # (N,) which of the B sequences
    column: np.ndarray  # (N,) which of the T columns
    position: np.ndarray  # (N,) which of the P positions
    bounds: np.ndarray  # (B+1,) sequence b owns rows bounds[b] to bounds[b+1]
    mask: np.ndarray  # (B,T) bool
    choices: int = 1  # multiple choice: adjacent sequences that answer one question

    def scatter(self, x: np.ndarray) -> np.ndarray:
        """x (N,…)  ->  (B,T,…), zeros at the padding."""
        out = np.zeros((*self.mask.shape, *x.shape[1:]), x.dtype)
        out[self.mask] = x
        return out

    def gather(self, x: np.ndarray) -> np.ndarray:
        """x (B,T,…)  ->  (N,…)."""
        return x[self.mask]

    def starts(self) -> np.ndarray:
        """(S,) the rows of sentence starts: those that repeat their sequence's first token."""
        return np.flatnonzero(self.ids == self.ids[self.bounds[:-1]][self.sequence])


LARGEST_KEY = 2**32 - 1  # of a seed, a step or a sequence number: dropout uses words of 32 bits


def given_in(batch: Mapping, name: str) -> np.ndarray:
    """An array of a batch. Raises TypeError or ValueError where there is none."""
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch is a mapping from names to arrays, not a {type(batch).__name__}")
    if batch.get(name) is None:
        raise ValueError(
            f"the batch has no {name}; it has {', '.join(map(str, batch)) or 'nothing'}"
        )
    return batch[name]


def pack(input_ids, attention_mask, token_type_ids, a: Architecture) -> Rows:
    """The rows of a batch that fits the architecture.

    input_ids, attention_mask, token_type_ids: (B,T) integers; the last two may be None, which means
    ones and zeros.
    Raises ValueError: shapes that differ, more tokens than positions, ids outside the vocabulary
    or the token types, a mask that is not 0/1, a sequence without a token.
    """
    ids = _integers("input_ids", input_ids)
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(f"input_ids must be (B,T) with at least one token, not {ids.shape}")
    position = _positions(ids, a.padding_position)
    beyond = position.max() + 1 - a.P
    if beyond > 0:
        raise ValueError(
            f"{a.longest + beyond} tokens do not fit {a.longest} positions; truncate or split the "
            f"text"
        )
    mask = np.ones(ids.shape, bool)
    if attention_mask is not None:
        given = np.asarray(attention_mask)
        _same_shape("attention_mask", given, ids)
        if given.dtype.kind not in "bfiu" or not np.isin(given, (0, 1)).all():
            raise ValueError("attention_mask must hold 0 (padding) and 1 (token) only")
        mask = given.astype(bool)
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(f"sequence {empty[0]} of {len(ids)} is all padding: attention_mask 0")
    types = np.zeros_like(ids)
    if token_type_ids is not None:
        types = _integers("token_type_ids", token_type_ids)
        _same_shape("token_type_ids", types, ids)
        if not a.types and types.any():
            raise ValueError("this family has no token types: leave token_type_ids out")
    _inside("input_ids", ids[mask], a.V, "the vocabulary")
    if a.types:
        _inside("token_type_ids", types[mask], a.types, "the token types")
    # nonzero returns strided views, for which Numba would compile each kernel a second time.
    sequence, column = map(np.ascontiguousarray, np.nonzero(mask))
    bounds = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    return Rows(ids[mask], types[mask], sequence, column, position[mask], bounds, mask)


def pack_choices(input_ids, attention_mask, token_type_ids, a: Architecture) -> Rows:
    """`pack` of arrays (B,choices,T), as B·choices sequences."""
    B, choices, T = _three(np.shape(input_ids))
    arrays = []
    for name, x in (("input_ids", input_ids), ("attention_mask", attention_mask),
                    ("token_type_ids", token_type_ids)):  # fmt: skip
        if x is not None and np.shape(x) != (B, choices, T):
            raise ValueError(f"{name} {np.shape(x)} must have the shape of input_ids "
                             f"{(B, choices, T)}")  # fmt: skip
        arrays.append(None if x is None else np.reshape(x, (B * choices, T)))
    return pack(*arrays, a)._replace(choices=choices)


def _three(shape):
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"input_ids must be (B,choices,T), at least one of each, not {shape}")
    return shape


def _positions(ids, padding):
    """ids (B,T)  ->  (B,T). padding: RoBERTa's padding id, None for the others."""
    if padding is None:
        return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    real = ids != padding
    return padding + real.cumsum(axis=1) * real


def _integers(name, x):
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length; pad them") from None
    if x.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, not {x.dtype}")
    return x.astype(np.int64, copy=False)


def _same_shape(name, x, ids):
    if x.shape != ids.shape:
        raise ValueError(f"{name} {x.shape} must have the shape of input_ids {ids.shape}")


def _inside(name, values, limit, what):
    wrong = values[(values < 0) | (values >= limit)]
    if len(wrong):
        raise ValueError(f"{name}: {wrong[0]} is outside {what} of {limit}")


class DropoutState(NamedTuple):
    """What names the dropout masks of one batch in one training step."""

    seed: int
    step: int
    sequence: np.ndarray  # (N,) each row's sequence, by its number in the global batch
    column: np.ndarray  # (N,)
    first_site: int = 0  # where sites count from, see `context`

    def dropout_key(self, site: int, p: float) -> DropoutKey:
        """The key of the mask at a site that drops with probability p."""
        site += self.first_site
        return DropoutKey(p, self.seed, self.step, site, self.sequence, self.column)

    def of(self, rows: np.ndarray) -> "DropoutState":
        """The same for some of the rows."""
        return self._replace(sequence=self.sequence[rows], column=self.column[rows])

    def from_site(self, site: int) -> "DropoutState":
        """The same with sites counted from this one."""
        return self._replace(first_site=self.first_site + site)
