"""Panels: the factors of a matrix product, copied so that a tile reads them from front to back.

`matmul.py` draws them. Here is how they are filled, how tiles are dealt out to threads, and where
the panels of a weight are kept for its next use.
"""

import weakref

import numpy as np

from minidistil.ops.kernels.register_tile import MR, NR, copy, get, put, transpose
from minidistil.ops.runtime.cpu import helper, serial

SMALL = 32_768  # multiply-adds below which waking another thread costs more than it saves
KC = 256  # steps of a block, on every machine; `matmul.py` says why

kept = {}  # {(id of a frozen weight, layout): its panels; None after its first use}


def frozen(b):
    """The weight W that nobody can write to, where b is its transpose; else None."""
    weight = b.base
    if weight is None or weight.flags.writeable or weight.base is not None:
        return None
    return weight if weight.T.strides == b.strides and weight.T.shape == b.shape else None


def remember(weight, layout, panels):
    """At the first use, that there was one; at the second, the panels."""
    key = id(weight), layout
    if key in kept:
        kept[key] = panels
    else:
        kept[key] = None
        weakref.finalize(weight, kept.pop, key)


@helper
def up(size, width):
    """How many panels of that width hold that size."""
    return (size + width - 1) // width


@helper
def line(address):
    """The next address at which a cache line begins."""
    return (address + 63) // 64 * 64


@helper
def split(rows, columns, workers):
    """Tiles of a slab  ->  into how many parts to cut its rows: the most loaded worker decides."""
    best, parts = rows * columns + 1, 1
    for p in range(workers, 0, -1):
        load = up(rows, p) * up(columns, workers // p)
        if load < best:
            best, parts = load, p
    return parts


@serial
def pack(at, row, step, lines, depth, width, to, first, last):
    """Panels first..last of a factor: `lines` lines `row` bytes apart, `depth` steps `step` apart.

    `to` is the address of its panels. Where lines are neighbours in memory, all panels take a
    few steps before any goes on, so that memory is read in long runs.
    """
    panels = up(lines, width)
    strip = 16 if row == 4 else KC
    for k0 in range(0, depth, strip):
        block = k0 // KC * KC
        kc, steps = min(KC, depth - block), min(strip, depth - k0)
        for panel in range(first, last):
            source = at + panel * width * row + k0 * step
            panel_to = to + 4 * width * (block * panels + panel * kc + k0 - block)
            filled = min(width, lines - panel * width)
            whole = 0  # steps that vectors take
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
