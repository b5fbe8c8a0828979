"""The key of a dropout mask, apart from the arithmetic that computes the mask."""

from typing import NamedTuple

import numpy as np


class DropoutKey(NamedTuple):
    """A mask's probability, key and site, and the position of each of the N rows."""

    p: float
    seed: int
    step: int
    site: int
    sequence: np.ndarray  # (N,) number of the row's sequence in the global batch
    column: np.ndarray  # (N,) its position in the sequence


class DropoutWords(NamedTuple):
    """The numbers that all rows of a mask share, as kernels take them."""

    key0: np.uint32  # the seed
    key1: np.uint32  # the step
    site: np.uint32
    threshold: np.uint32  # p·2³²: a value is kept where its random word is not below
    scale: np.float32  # 1/(1−p), of a value that is kept


def words_of(dropout_key: DropoutKey) -> DropoutWords:
    """DropoutKey  ->  DropoutWords."""
    numbers = (dropout_key.seed, dropout_key.step, dropout_key.site, int(dropout_key.p * 2**32))
    words = (np.uint32(n & 0xFFFFFFFF) for n in numbers)
    return DropoutWords(*words, np.float32(1 / (1 - dropout_key.p)))
