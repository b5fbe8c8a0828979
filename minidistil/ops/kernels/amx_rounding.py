"""What attention on AMX tiles rounds, kept as float32 for its backward."""

import numpy as np

from minidistil.ops.kernels.row_rounding import bf16_row
from minidistil.ops.runtime.cpu import exact, prange
from minidistil.ops.runtime.workspace import empty_like


def rounded(x: np.ndarray) -> np.ndarray:
    """x (N,C) float32  ->  `number_formats.round_bf16` of it."""
    y = empty_like(x)
    _round_rows(x, y.view(np.int32))
    return y


@exact(parallel=True)
def _round_rows(x, bits):
    for n in prange(len(x)):
        bf16_row(x[n], bits[n], np.int32(0))
