"""Ceilings of the processor: arithmetic in vector registers, and reading from memory or a cache.

The arithmetic is the register tile on operands that never leave the first-level cache.
`amx_peak.py` has the ceilings of the matrix unit.
"""

import time
from collections.abc import Callable

import numpy as np

from minidistil.ops.kernels.register_tile import MR, NR, PackedTile, tile
from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.cpu import address_of, kernel, prange

STEPS, TILES = 256, 4_000  # of a panel, and of a burst: about 2 ms
BURSTS = 200  # enough for one of them to run on an idle machine
FAR = 1 << 30  # bytes of an array that no cache holds
NEAR = 1 << 18  # bytes of each thread's array in the second-level cache
READ, READS = 1 << 30, 5  # bytes of a run, and runs


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


def bandwidth(
    size: int, threads: int, clock: Callable[[], float] = time.perf_counter, read: int = READ
) -> float:
    """Bytes a second that the threads read from an array of that size: the best run.

    size: bytes; each thread reads its own part, again and again until `read` bytes are read in all.
    """
    x = np.ones((threads, size // threads // 4), np.float32)  # zeros would share one page of memory
    times, best = max(1, read // x.nbytes), np.inf
    sums = np.zeros(threads, np.float32)
    with cpu.threads(threads):
        _read(1, x, sums)
        for _ in range(READS):
            before = clock()
            _read(times, x, sums)
            best = min(best, clock() - before)
    return times * x.nbytes / best


@kernel
def _read(times, x, sums):
    """x (threads,n)  ->  sums (threads,) += times · the sum of each row."""
    for t in prange(len(x)):
        row = x[t]
        for _ in range(times):
            total = np.float32(0)
            for i in range(len(row)):
                total += row[i]
            sums[t] += total
