"""Emulation in Python of the instructions of `ptx.py` and `kernels/many_arrays_cuda.py`, for the
simulator.

Asynchronous copies are as late as the device allows: nothing arrives before a thread waits for it,
so a kernel without the wait, or without the barrier after it, reads the old contents.
"""

from ctypes import c_float

import numpy as np

from minidistil.ops.runtime.simulator import exchange, this_lane


def float_at(address, i):
    """Loads the float i places after an address."""
    return np.float32(c_float.from_address(int(address) + 4 * int(i)).value)


def put_float(address, i, x):
    """Stores the float i places after an address."""
    c_float.from_address(int(address) + 4 * int(i)).value = x


def load4(x, at):
    """Loads four floats from x.flat[at] on."""
    flat = x.reshape(-1)
    return flat[at], flat[at + 1], flat[at + 2], flat[at + 3]


def store4(x, at, v0, v1, v2, v3):
    """Stores four floats from x.flat[at] on."""
    flat = x.reshape(-1)
    flat[at], flat[at + 1], flat[at + 2], flat[at + 3] = v0, v1, v2, v3


def copy4_async(tile, to, x, at, count):
    """Starts a copy of `count` floats from x.flat[at] to tile.flat[to], and zeros up to four."""
    _groups()[-1].append((tile, to, x, at, count, 4))


def copy1_async(tile, to, x, at, count):
    """Starts a copy of one float, or one zero."""
    _groups()[-1].append((tile, to, x, at, count, 1))


def commit_copies():
    """Ends a group: the copies that this thread has started since the last call."""
    _groups().append([])


def wait_copies(but):
    """Waits for all groups of this thread but the last few."""
    groups = _groups()
    while len(groups) - 1 > but:
        for tile, to, x, at, count, width in groups.pop(0):
            source, target = x.reshape(-1), tile.reshape(-1)
            for i in range(width):
                target[to + i] = source[at + i] if i < count else np.float32(0)


def _groups():
    lane = this_lane()
    if not hasattr(lane, "copies"):
        lane.copies = [[]]
    return lane.copies


def load_matrices(tile, at):
    """Loads four matrices of 8 rows × 4 floats: lane 8i + r gives the start of row r of matrix i
    and receives of each matrix the float in row lane/4, column lane%4."""
    seen, lane = exchange(at)
    flat = tile.reshape(-1)
    return tuple(flat[seen[8 * i + lane // 4] + lane % 4] for i in range(4))


def to_tf32(x):
    """The bits of x rounded to nearest with 10 bits of fraction."""
    bits = int(np.float32(x).view(np.uint32))
    return np.uint32(bits + 0x1000 & 0xFFFFE000)


def pack_bf16(low, high):
    """Two numbers, rounded to nearest with 7 bits of fraction, in a word."""
    return np.uint32(_bf16(high) << 16 | _bf16(low))


def _bf16(x):
    bits = int(np.float32(x).view(np.uint32))
    if np.isnan(x):
        return 0x7FFF
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def mma_tf32(a, b, c):
    """The warp's product 16 × 8 · 8 × 8 + c; the PTX ISA draws each lane's registers."""
    return _mma(a, b, c, lambda word: [word])


def mma_bf16(a, b, c):
    """The warp's product 16 × 16 · 16 × 8 + c, two steps a register."""
    return _mma(a, b, c, lambda word: [word << np.uint32(16), word & np.uint32(0xFFFF0000)])


def _mma(a, b, c, numbers):
    seen, lane = exchange((a, b))
    g, t = lane // 4, lane % 4

    def line(operand, group, registers):
        owners = [seen[4 * group + i][operand] for i in range(4)]
        words = [word for o in owners for r in registers for word in numbers(o[r])]
        return np.array(words, np.uint32).view(np.float32)

    rows = line(0, g, (0, 2)), line(0, g, (1, 3))
    columns = line(1, 2 * t, (0, 1)), line(1, 2 * t + 1, (0, 1))
    return tuple(c[2 * i + j] + rows[i] @ columns[j] for i in (0, 1) for j in (0, 1))
