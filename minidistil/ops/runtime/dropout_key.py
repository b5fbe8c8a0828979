"""Where dropout draws: what names a mask, without the arithmetic that makes one."""

from typing import NamedTuple

import numpy as np


class DropoutKey(NamedTuple):
    """A mask's probability, key and site, and the place of each of the N rows."""

    p: float
    seed: int
    step: int
    site: int
    sequence: np.ndarray  # (N,) number of the row's sequence in the global batch
    column: np.ndarray  # (N,) its position in the sequence


def words_of(dropout_key):
    """key 0, key 1, site, and the threshold a word must reach to survive; all uint32."""
    numbers = (dropout_key.seed, dropout_key.step, dropout_key.site, int(dropout_key.p * 2**32))
    return tuple(np.uint32(n & 0xFFFFFFFF) for n in numbers)
