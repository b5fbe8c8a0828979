"""Number formats narrower than float32, in NumPy: what is rounded, and how.

    bfloat16   the upper half of a float32: its sign, its 8 bits of exponent, 7 of its 23 bits of
               fraction. Nearest, ties to even. The range of float32, three decimal digits.
    int8       a row of a matrix as whole numbers −127 … 127 and one scale: x ≈ scale·q.
               scale = bfloat16(max|x| / 127), q = nearest(x·(1/scale)), ties to even.

A scale is itself rounded to bfloat16, because 8 bits times the 7 bits of q fit into a float32:
scale·q is exact, so whoever quantises it again finds the same q and the same scale, to the last
bit. It may come out 2⁻⁹ too small, and 127·(1 + 2⁻⁹) still rounds to 127: nothing is ever cut off.
"""

import numpy as np

LARGEST = 127  # −128 stays unused, so that the format is symmetric
# No scale is smaller, not even a row of zeros': 1/scale stays finite, and what is lost is nothing.
SMALLEST_SCALE = np.float32(2.0**-100)


def round_bf16(x):
    """x, any shape  ->  the nearest bfloat16 numbers, in x's own dtype. NaN stays NaN."""
    single = np.asarray(x, np.float32)
    bits = single.view(np.uint32)
    upper = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    nearest = np.where(np.isnan(single), np.float32(np.nan), upper.view(np.float32))
    return nearest.astype(x.dtype, copy=False)


def quantize(x):
    """x (R,C)  ->  q (R,C) int8, scale (R,) float32, all arithmetic in float32.

    A row that holds NaN or infinity has no scale: NaN, and zeros for q.
    """
    x = np.asarray(x, np.float32)
    largest = np.abs(x).max(axis=1, initial=0)  # (R,)
    finite = np.isfinite(largest)
    scale = np.maximum(round_bf16(largest / np.float32(LARGEST)), SMALLEST_SCALE)
    scale = np.where(finite, scale, np.float32(np.nan))
    q = np.zeros(x.shape, np.int8)
    q[finite] = np.rint(x[finite] * (1 / scale[finite, None]))
    return q, scale


def dequantize(q, scale):
    """q (R,C) int8, scale (R,)  ->  (R,C) float32."""
    return q * scale[:, None]


def no_gradient(dtype):
    """The error of a backward through numbers that were rounded."""
    return ValueError(
        f"a model in {dtype} is for inference, rounding has no gradient; train in float32 and "
        f'give dtype="{dtype}" when the result is loaded'
    )
