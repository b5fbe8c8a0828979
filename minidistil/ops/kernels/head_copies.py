"""Copies of a head's rows for the tiles of attention on the CPU: as rows, as columns, and back."""

import numpy as np

from minidistil.ops.kernels.register_tile import NR, copy, transpose
from minidistil.ops.runtime.cpu import address_of, helper, serial


@helper
def up_to(size, width):
    """The next multiple of `width`."""
    return (size + width - 1) // width * width


@helper
def pitch(D):
    """Floats from one copied row to the next: an odd number of cache lines.

    Rows of 256 bytes would all fall into a quarter of the first-level cache.
    """
    return 16 * (up_to(D, NR) // 16 | 1)


@serial
def copy_rows(x, first, count, c0, D, out):
    """out[:count] = D channels of x from row `first` and channel c0 on."""
    row, start = x.strides[0], address_of(x) + first * x.strides[0] + 4 * c0
    whole = D // NR * NR
    for i in range(count):
        for c in range(0, whole, NR):
            copy(address_of(out) + i * out.strides[0] + 4 * c, start + i * row + 4 * c, NR)
        for c in range(whole, D):
            out[i, c] = x[first + i, c0 + c]


@serial
def put_rows(block, count, scale, x, first, c0, D):
    """D channels of x, from row `first` and channel c0 on, = block[:count]·scale."""
    for i in range(count):
        for c in range(D):
            x[first + i, c0 + c] = block[i, c] * scale


@serial
def copy_transposed(x, first, count, c0, D, out):
    """The rows as columns, in panels (D,NR) one after another; zeros fill the last panel."""
    row, start = x.strides[0], address_of(x) + first * x.strides[0] + 4 * c0
    for j in range(0, count, NR):
        whole = D // 4 * 4 if j + NR <= count else 0
        for c in range(0, whole, 4):
            transpose(address_of(out) + 4 * (j * D + NR * c), start + j * row + 4 * c, row, NR)
        for i in range(NR):
            for c in range(whole, D):
                inside = j + i < count
                out[j * D + NR * c + i] = x[first + j + i, c0 + c] if inside else np.float32(0)
