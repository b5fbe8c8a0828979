"""Peak speed of the processor: the register tile on operands that never leave the cache."""

import time
from collections.abc import Callable

import numpy as np

from minidistil.ops.kernels.register_tile import MR, NR, PackedTile, tile
from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.cpu import address_of, kernel, prange

STEPS, TILES = 256, 4_000  # of a panel, and of a burst: about 2 ms
BURSTS = 200  # enough for one of them to run on an idle machine


def peak(threads: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Multiplications and additions a second in float32 on that many threads: the best burst."""
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
    the row of zeros from which it starts."""
    for t in prange(len(panels)):
        a = address_of(panels[t])
        b = a + 4 * STEPS * MR
        c = b + 4 * STEPS * NR
        for _ in range(tiles):
            tile(PackedTile(STEPS, a, b, c, 4 * NR, 0, c + 4 * MR * NR, b, 4 * NR), MR)
