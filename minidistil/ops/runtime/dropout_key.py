"""Where dropout draws: what names a mask, without the arithmetic that makes one."""

from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """A mask's probability, key and site, and the place of each of the N rows."""

    p: float
    seed: int
    step: int
    site: int
    sequence: np.ndarray  # (N,) number of the row's sequence in the global batch
    column: np.ndarray  # (N,) its position in the sequence


def words_of(draw):
    """key 0, key 1, site, and the threshold a word must reach to survive; all uint32."""
    numbers = (draw.seed, draw.step, draw.site, int(draw.p * 2**32))
    return tuple(np.uint32(n & 0xFFFFFFFF) for n in numbers)
