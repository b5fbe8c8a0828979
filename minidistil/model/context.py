"""What all layers of a model share in one pass over a batch, and the numbering of its dropouts.

A dropout mask is a function of a seed, a training step and the number of its site, so each place
of dropout in a model has a number of its own:

    0          embeddings
    1          the last layer of a classifier
    2, 3, …    block 0, block 1, …: three sites each, five in a block with cross attention
    2¹⁶        the first layer of RoBERTa's classifier

Inside a block, sites count from 0: `Context.of_block` adds the number of the block's first one.
"""

from typing import Any, NamedTuple

import numpy as np

from minidistil.config.base import Architecture
from minidistil.model.rows import DropoutState
from minidistil.ops.runtime.dropout_key import DropoutKey

EMBEDDING_DROPOUT, CLASSIFIER_DROPOUT, FIRST_BLOCK, DENSE_DROPOUT = 0, 1, 2, 2**16
# Inside a block:
ATTENTION_DROPOUT, OUTPUT_DROPOUT, FFN_DROPOUT = 0, 1, 2
CROSS_ATTENTION_DROPOUT, CROSS_OUTPUT_DROPOUT = 3, 4


def first_site(block: int, architecture: Architecture) -> int:
    """The first dropout site of a block; of block L, the first site behind all blocks."""
    sites = 5 if architecture.cross_attends else 3
    return FIRST_BLOCK + sites * block


class Context(NamedTuple):
    """What all layers share in one pass."""

    architecture: Architecture
    bounds: np.ndarray  # (B+1,) sequence b owns rows bounds[b] to bounds[b+1]
    ops: Any  # a `minidistil.backend`
    dropout_state: DropoutState | None = None  # None: evaluation
    keep: bool = True  # False: inference, nothing is cached for the backward

    def of_block(self, i: int) -> "Context":
        """The same with dropout sites counted from the first one of block i."""
        if self.dropout_state is None:
            return self
        shifted = self.dropout_state.from_site(first_site(i, self.architecture))
        return self._replace(dropout_state=shifted)

    def of_rows(self, rows: np.ndarray) -> "Context":
        """The same for some of the rows."""
        if self.dropout_state is None:
            return self
        return self._replace(dropout_state=self.dropout_state.of(rows))

    def dropout_key(self, rate: float, site: int) -> DropoutKey | None:
        """The key of the mask at this site; None where nothing is dropped."""
        if self.dropout_state is None or rate == 0:
            return None
        return self.dropout_state.dropout_key(site, rate)

    def drop(self, x, rate: float, site: int):
        """x (N,C)  ->  dropout(x) (N,C), cache; x itself in evaluation."""
        key = self.dropout_key(rate, site)
        return (x, None) if key is None else self.ops.dropout.forward(x, key=key)


def drop_backward(dy, cache, ops):
    """dy (N,C), the cache of `Context.drop`  ->  dx (N,C)."""
    return dy if cache is None else ops.dropout.backward(dy, cache)[0]


def plus(a, b, ops):
    """a + b, where None is zero: a quantity with two readers has the sum of their gradients."""
    if a is None or b is None:
        return b if a is None else a
    return ops.add.forward(a, b)[0]
