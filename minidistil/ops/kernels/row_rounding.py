"""Rounding of float32 rows to a narrow format on the CPU: `number_formats.py` in Numba."""

import numpy as np

from minidistil.ops.kernels.number_formats import SMALLEST_SCALE, WIDTH
from minidistil.ops.runtime.cpu import bits_from_float, exact, float_from_bits, helper, own_code

# Bits of a float32: the sign, all others, infinity, the flag of a quiet NaN, the upper half.
SIGN, MAGNITUDE, INFINITY = np.int32(-(1 << 31)), np.int32(0x7FFFFFFF), np.int32(0x7F800000)
QUIET, UPPER = np.int32(0x00400000), np.int32(-0x10000)


@exact()
def whole_row(x, line, short, lowest):
    """x (I,)  ->  line (I,), whole numbers less `zero`; returns their scale, and zero.

    (In Numba, int32 − int32 is an int64: each is turned back, for vectors of 16 numbers, not 8.)

    The numbers are those of `number_formats.quantize_rows`, to the bit. zero: 0; for a short type
    the value that turns the smallest of the row into `lowest`.
    """
    own_code()
    high, low = _extremes(x.view(np.int32))
    if high >= INFINITY or low >= INFINITY:
        line[:] = 0
        return np.float32(np.nan), np.int32(0)
    high, low = float_from_bits(high), -float_from_bits(low)
    fitting = high / np.float32(WIDTH) - low / np.float32(WIDTH)
    scale = max(float_from_bits(_rounded(bits_from_float(fitting))), SMALLEST_SCALE)
    inverse = np.float32(1) / scale
    zero = np.int32(np.rint(low * inverse)) - np.int32(lowest) if short else np.int32(0)
    for k in range(len(x)):
        line[k] = np.int32(np.int32(np.rint(x[k] * inverse)) - zero)
    return scale, zero


@exact()
def _extremes(bits):
    """bits (I,) of a row of floats  ->  bits of its largest entry and of minus its smallest, each 0
    or above: floats without a sign are ordered as their bits; bits of those with one are below."""
    high = low = np.int32(0)
    for k in range(len(bits)):
        high = np.int32(max(high, bits[k]))
        low = np.int32(max(low, np.int32(bits[k] ^ SIGN)))
    return high, low


@exact()
def bf16_row(x, line, shift):
    """x (I,)  ->  line (I,): `number_formats.round_bf16`, shifted as the tile reads it."""
    bits = x.view(np.int32)
    for k in range(len(x)):
        line[k] = _rounded(bits[k]) >> shift


@helper
def _rounded(bits):
    """The bits of a float32, int32  ->  those of the nearest bfloat16; NaN stays NaN."""
    nearest = bits + np.int32(0x7FFF) + (bits >> np.int32(16) & np.int32(1))
    nan = bits & MAGNITUDE > INFINITY
    return np.int32((bits | QUIET if nan else nearest) & UPPER)
