"""How fast the processor could be: the register tile on operands that never leave its cache."""

import time

import numpy as np

from minidistil.ops.kernels.register_tile import MR, NR, tile
from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.cpu import kernel, prange

STEPS, TILES = 256, 4_000  # of a panel, and of a burst: some 2 ms
BURSTS = 200  # so that one of them meets an idle machine


def peak(threads, clock=time.perf_counter):
    """Multiplications and additions a second, float32, on that many threads: the best burst."""
    panels = np.zeros((threads, STEPS + MR + 1, MR + NR), np.float32)
    best = np.inf
    with cpu.threads(threads):
        _burst(1, panels)
        for _ in range(BURSTS):
            before = clock()
            _burst(TILES, panels)
            best = min(best, clock() - before)
    return threads * TILES * 2 * MR * NR * STEPS / best


@kernel
def _burst(tiles, panels):
    """panels (threads, STEPS + MR + 1, MR + NR): room for a panel of A, one of B, the tile, and
    the row of zeros that it starts from."""
    for t in prange(len(panels)):
        a = panels[t].ctypes.data
        b = a + 4 * STEPS * MR
        c = b + 4 * STEPS * NR
        for _ in range(tiles):
            tile(STEPS, a, b, c, 4 * NR, 0, c + 4 * MR * NR)
