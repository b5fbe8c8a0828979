"""Packing of a matrix product's factors into panels, and the split of its tiles among threads.

`matmul.py` draws the panels. `kept` holds the panels of frozen weights for their next use.
"""

import weakref
from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels.register_tile import MR, NR, copy, get, put, transpose
from minidistil.ops.runtime.cpu import helper, serial
from minidistil.ops.runtime.workspace import owns_memory

SMALL = 32_768  # multiply-adds below which waking another thread costs more than it saves
KC = 256  # steps of a sum that starts from zero, on every machine; `matmul.py` says why

kept = {}  # {(id of a frozen weight, layout): its panels; None after its first use}


def frozen(b):
    """The read-only weight W of which b is the transpose; None if b is anything else."""
    weight = b.base
    if weight is None or weight.flags.writeable or not owns_memory(weight):
        return None
    return weight if weight.T.strides == b.strides and weight.T.shape == b.shape else None


def remember(weight, layout, panels):
    """Notes a weight's first use; keeps its panels at the second, for as long as it lives."""
    key = id(weight), layout
    if key in kept:
        kept[key] = panels
    else:
        kept[key] = None
        weakref.finalize(weight, kept.pop, key)


@helper
def up(size, width):
    """⌈size/width⌉: the number of panels of that width."""
    return (size + width - 1) // width


@helper
def line(address):
    """The address rounded up to a cache line."""
    return (address + 63) // 64 * 64


@helper
def split(rows, columns, workers):
    """Rows and columns of tiles  ->  parts to cut the rows into; the columns are cut into
    workers // parts. The largest share of a worker is minimal."""
    best, parts = rows * columns + 1, 1
    for p in range(workers, 0, -1):
        load = up(rows, p) * up(columns, workers // p)
        if load < best:
            best, parts = load, p
    return parts


class Tiles(NamedTuple):
    """A rectangle of tiles: rows [i0,i1), columns [j0,j1)."""

    i0: int
    i1: int
    j0: int
    j1: int


@helper
def share_of(worker, I, J, workers):
    """The rectangle of I × J tiles that a worker computes. It is empty for the workers left over
    where the cut uses fewer."""
    p = split(I, J, workers)
    q = workers // p
    i, j = worker // q, worker % q
    return Tiles(min(i, p) * I // p, min(i + 1, p) * I // p, j * J // q, (j + 1) * J // q)


class Factor(NamedTuple):
    """A factor of a matrix product: `lines` lines (rows of A, columns of B) of `steps` entries
    along k; its address and its strides in bytes."""

    at: int
    row: int  # from one line to the next
    step: int  # from one entry of a line to the next
    lines: int
    steps: int


@serial
def pack(factor, width, to, first, last):
    """Packs panels first..last of a factor, `width` lines each; `to` is the address of panel 0.

    Where lines are neighbours in memory, every panel takes a few steps before the first one takes
    further steps, so that memory is read in long runs.
    """
    at, row, step, lines, depth = factor
    panels = up(lines, width)
    strip = 16 if row == 4 else KC
    for k0 in range(0, depth, strip):
        block = k0 // KC * KC
        kc, steps = min(KC, depth - block), min(strip, depth - k0)
        for panel in range(first, last):
            source = at + panel * width * row + k0 * step
            panel_to = to + 4 * width * (block * panels + panel * kc + k0 - block)
            filled = min(width, lines - panel * width)
            whole = 0  # steps copied by vector moves
            if filled == width and row == 4:
                whole = steps
                for k in range(whole):
                    if width == MR:
                        copy(panel_to + 4 * k * MR, source + k * step, MR)
                    else:
                        copy(panel_to + 4 * k * NR, source + k * step, NR)
            elif filled == width and step == 4:
                whole = steps // 4 * 4
                for k in range(0, whole, 4):
                    if width == MR:
                        transpose(panel_to + 4 * k * MR, source + 4 * k, row, MR)
                    else:
                        transpose(panel_to + 4 * k * NR, source + 4 * k, row, NR)
            for k in range(whole, steps):
                for i in range(width):
                    x = get(source + k * step + i * row) if i < filled else np.float32(0)
                    put(panel_to + 4 * (k * width + i), x)


@serial
def put_part(spare, to, row, shape, add):
    """Writes or adds the first rows and columns of a spare tile to C, at address `to`."""
    for p in range(shape[0]):
        for q in range(shape[1]):
            cell, new = to + p * row + 4 * q, get(spare + 4 * (p * NR + q))
            put(cell, get(cell) + new if add else new)
