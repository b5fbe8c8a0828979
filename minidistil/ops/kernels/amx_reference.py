"""What AMX computes, in NumPy, to the bit, from panels as the processor reads them.

    tdpbf16ps   C += A·B, 32 channels. From zero, the sum over the even channels and the one over
                the odd channels, each product added with one rounding; then the two sums together;
                then to C. Subnormal numbers count as zero, going in and coming out.
    tdpbusd     C += A·B, 64 channels, whole numbers: exact.

So a sum over K channels rounds K/32 times at its full size where a float32 sum rounds K times.

`run_block` stands for the instruction loop of `amx_tile.block`: a machine without AMX runs the
packing and the loops around a block with it (`compute.py_func` in the tests, the same code).
"""

import ctypes

import numpy as np

from minidistil.ops.kernels.amx_tile import FORMATS, INT8, LANES, SIDE, TILE

TINY = np.finfo(np.float32).tiny


def flush(x):
    """float32, with zeros for subnormal numbers."""
    return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x)


def multiply_add(a, b, c):
    """a·b + c with one rounding, where a and b are bfloat16 numbers: float64 holds what decides."""
    return flush((a.astype(np.float64) * b + c).astype(np.float32))


def tdpbf16ps(c, a, b):
    """c (M,N), a (M,32), b (32,N), bfloat16 numbers as float32  ->  c + a·b (M,N) float32."""
    a, b = flush(a)[:, :, None], flush(b)  # (M,32,1)
    even = odd = np.zeros(c.shape, np.float32)
    for k in range(0, 32, 2):
        even = multiply_add(a[:, k], b[k], even)
        odd = multiply_add(a[:, k + 1], b[k + 1], odd)
    return flush(flush(c) + flush(even + odd))


def tdpbusd(c, a, b):
    """c (M,N) int32, a (M,64) uint8, b (64,N) int8  ->  c + a·b (M,N) int32."""
    return c + a.astype(np.int32) @ b.astype(np.int32)


def tiles(panel, kind, right):
    """A panel's bytes  ->  (steps, parts, 32 lines, channels) for A, (…, channels, 32) for B."""
    form = FORMATS[kind]
    if kind == INT8:
        x = panel.view(np.int8 if right else np.uint8)
    else:
        x = (panel.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    word = form.channels // 16
    x = x.reshape(-1, form.parts, 2, 16, 16, word)  # step, part, tile, row, word, channel of it
    if right:  # a row is a word of 16 columns
        return x.transpose(0, 1, 3, 5, 2, 4).reshape(-1, form.parts, form.channels, SIDE)
    return x.reshape(-1, form.parts, SIDE, form.channels)


def block_of(kind, a, b):
    """`tiles` of a panel of A and of B  ->  sums (rows,32), as `amx_tile.emit_block`."""
    c = np.zeros((a.shape[2], SIDE), np.int32 if kind == INT8 else np.float32)
    dot = tdpbusd if kind == INT8 else tdpbf16ps
    for products in FORMATS[kind].passes:
        for k in range(len(a)):
            for p, q in products:
                c = dot(c, a[k, p], b[k, q])
    return c


def run_block(at):
    """`amx_tile.block` without AMX. at: a Block, whose addresses are read and written here."""
    kind = at.kind
    size = at.steps * 2 * TILE * FORMATS[kind].parts
    panels = (np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(x)) for x in (at.a, at.b))
    a, b = (tiles(x, kind, right) for x, right in zip(panels, (False, True), strict=True))
    down = SIDE if at.rows > LANES else LANES
    found = block_of(kind, a[:, :, :down], b).view(np.int32)
    for r in range(down):
        sums = (ctypes.c_int32 * SIDE).from_address(at.to + r * at.row)
        np.ctypeslib.as_array(sums)[:] = found[r]
