"""What AMX computes, in NumPy, to the bit, from panels as the processor reads them.

    tdpbf16ps   C += A·B, 32 channels. From zero, the sum over the even channels and the one over
                the odd channels, each product added with one rounding; then the two sums together;
                then to C. Subnormal numbers count as zero, going in and coming out.
    tdpbusd     C += A·B, 64 channels, whole numbers: exact.

So a sum over K channels rounds K/32 times at its full size where a float32 sum rounds K times.

`Registers` stands for the tile registers and the instructions of `amx_tile.py`: a machine without
AMX runs the packing and the loops around them with it (`compute.py_func` in the tests, the same
code).
"""

import ctypes

import numpy as np

from minidistil.ops.kernels.amx_tile import FORMATS, INT8, LANES, SIDE, TILE, PassSteps

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


class Registers:
    """The tiles of C, and what `amx_tile.py` does with them, without AMX."""

    def clear(self):
        """As `amx_tile.clear`."""
        self.c = np.zeros((SIDE, SIDE), np.float32)

    def advance(self, at):
        """at: a PassSteps, whose addresses are read here."""
        form, down = FORMATS[at.kind], SIDE if at.rows > LANES else LANES
        size = at.steps * 2 * TILE * form.parts
        panels = (np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(x))
                  for x in (at.a, at.b))  # fmt: skip
        a, b = (tiles(x, at.kind, right) for x, right in zip(panels, (False, True), strict=True))
        dot, c = (tdpbusd, self.c.view(np.int32)) if at.kind == INT8 else (tdpbf16ps, self.c)
        for k in range(at.steps):
            for p, q in form.passes[at.turn]:
                c[:down] = dot(c[:down], a[k, p, :down], b[k, q])

    def store(self, rows, to, row):
        """As `amx_tile.store`."""
        for r in range(SIDE if rows > LANES else LANES):
            sums = (ctypes.c_float * SIDE).from_address(to + r * row)
            np.ctypeslib.as_array(sums)[:] = self.c[r]


def run_block(at):
    """`amx_tile.block` without AMX. at: a Block, whose addresses are read and written here."""
    registers = Registers()
    registers.clear()
    for turn in range(len(FORMATS[at.kind].passes)):
        registers.advance(PassSteps(at.kind, at.rows, turn, at.steps, 0, at.a, at.b, at.unread))
    registers.store(at.rows, at.to, at.row)
