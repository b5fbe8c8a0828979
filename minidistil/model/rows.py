"""No padding inside: a padded batch (B,T) becomes N rows, one for each real token.

    input_ids        attention_mask        rows                    bounds
    a b c 0          1 1 1 0               a b c d e               0 3 5
    d e 0 0          1 1 0 0

Everything between the embeddings and the heads works on rows; results return to (B,T,…) at the
door, with zeros where there is no token. A token's position is its column in the batch, so the
mask may have holes or padding on the left. RoBERTa's is counted: how many ids up to this one are
not the padding id, and that id is added, for it has a position, too. The mask has no say in it.

    input_ids        RoBERTa's positions, where padding's id is 1
    a b 1 c 1        2 3 1 4 1
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

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
    choices: int = 1  # how many sequences in a row make one question

    def scatter(self, x):
        """x (N,…)  ->  (B,T,…), zeros at the padding."""
        out = np.zeros((*self.mask.shape, *x.shape[1:]), x.dtype)
        out[self.mask] = x
        return out

    def gather(self, x):
        """x (B,T,…)  ->  (N,…)."""
        return x[self.mask]

    def starts(self):
        """The rows where a sentence begins, (S,): each repeats its sequence's first token."""
        return np.flatnonzero(self.ids == self.ids[self.bounds[:-1]][self.sequence])


LARGEST_KEY = 2**32 - 1  # of a seed, a step or a sequence: dropout's numbers are words of 32 bits


def given_in(batch, name):
    """An array of a batch. Raises TypeError or ValueError where there is none."""
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch is a mapping from names to arrays, not a {type(batch).__name__}")
    if batch.get(name) is None:
        raise ValueError(
            f"the batch has no {name}; it has {', '.join(map(str, batch)) or 'nothing'}"
        )
    return batch[name]


def pack(input_ids, attention_mask, token_type_ids, a):
    """The rows of a batch, once it is known to fit the architecture.

    input_ids, attention_mask, token_type_ids: (B,T) integers, the last two may be None (all ones,
    all zeros).
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
    # nonzero gives strided views, for which kernels would be compiled once more.
    sequence, column = map(np.ascontiguousarray, np.nonzero(mask))
    bounds = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    return Rows(ids[mask], types[mask], sequence, column, position[mask], bounds, mask)


def pack_choices(input_ids, attention_mask, token_type_ids, a):
    """`pack` of arrays (B,choices,T): their B·choices sequences one after another."""
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
    """Dropout's randomness for one training step of one batch; None stands for evaluation."""

    seed: int
    step: int
    sequence: np.ndarray  # (N,) number in the global batch
    column: np.ndarray  # (N,)
    first_site: int = 0  # above 0 for the second of two models that draw in one step

    def dropout_key(self, site, p):
        """What `ops.dropout` needs to drop with probability p at one of the model's places."""
        site += self.first_site
        return DropoutKey(p, self.seed, self.step, site, self.sequence, self.column)

    def of(self, rows):
        """The same for some of the rows."""
        return self._replace(sequence=self.sequence[rows], column=self.column[rows])

    def from_site(self, site):
        """The same with sites counted from this one."""
        return self._replace(first_site=self.first_site + site)
