"""Number formats narrower than float32, in NumPy.

    bfloat16   the upper half of a float32: its sign, its 8 bits of exponent, 7 of its 23 bits of
               fraction. Nearest, ties to even. The range of float32, three decimal digits.
    int8       a row as whole numbers and one scale, x ≈ scale·q, q = nearest(x·(1/scale)), ties to
               even. 8 bits are 256 numbers, a different range for each factor of a product:
                   weights       −127 … 127, scale = bfloat16(max|x| / 127): the stored format
                   activations   256 consecutive numbers including 0, different in each row,
                                 scale = bfloat16((max − min) / 254)
               A row after GELU, almost all of it positive, thus wastes no bit on signs.

A scale is itself rounded to bfloat16, because 8 bits times the 7 bits of q fit into a float32:
scale·q is exact, so that quantising a weight again gives the same q and the same scale, to the last
bit. A scale may be 2⁻⁹ too small: 127·(1 + 2⁻⁹) still rounds to 127, and the width 254·(1 + 2⁻⁹) to
255 at most, so no number is cut off.
"""

import numpy as np

LARGEST = 127  # of a weight; −128 stays unused, so that the format is symmetric
WIDTH = 254  # of the activations in a row; the ends of a width of 254.5 may round apart, to 255
# The smallest scale, also of a row of zeros. It keeps 1/scale finite; smaller numbers become 0.
SMALLEST_SCALE = np.float32(2.0**-100)


def round_bf16(x: np.ndarray) -> np.ndarray:
    """x, any shape  ->  the nearest bfloat16 numbers, in x's own dtype. NaN stays NaN."""
    single = np.asarray(x, np.float32)
    bits = single.view(np.uint32)
    upper = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    nearest = np.where(np.isnan(single), np.float32(np.nan), upper.view(np.float32))
    return nearest.astype(x.dtype, copy=False)


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """weight (R,C)  ->  q (R,C) int8, scale (R,) float32, all arithmetic in float32.

    The scale of a row that holds NaN or infinity is NaN, and its q are zeros.
    """
    weight = np.asarray(weight, np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        fitting = np.abs(weight).max(axis=1, initial=0) / np.float32(LARGEST)
    return _whole(weight, fitting, np.int8)


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations x (N,C)  ->  q (N,C) int16, scale (N,) float32. NaN and infinity as above."""
    x = np.asarray(x, np.float32)
    high, low = x.max(axis=1, initial=0), x.min(axis=1, initial=0)  # (N,)
    with np.errstate(invalid="ignore"):
        fitting = high / np.float32(WIDTH) - low / np.float32(WIDTH)
    return _whole(x, fitting, np.int16)


def _whole(x, fitting, kind):
    """Rows x  ->  the nearest whole numbers, and scales; fitting: the scales before rounding."""
    finite = np.isfinite(fitting)
    scale = np.maximum(round_bf16(fitting), SMALLEST_SCALE)
    scale = np.where(finite, scale, np.float32(np.nan))
    q = np.zeros(x.shape, kind)
    q[finite] = np.rint(x[finite] * (1 / scale[finite, None]))
    return q, scale


def dequantize(q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """q (R,C) int8, scale (R,)  ->  (R,C) float32."""
    return q * scale[:, None]
