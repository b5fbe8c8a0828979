"""Peak speed of the vector instructions in bfloat16 and int8; `peak_cpu.py` has float32."""

import time
from collections.abc import Callable

import numpy as np

from minidistil.ops.kernels.peak_cpu import BURSTS, STEPS, TILES
from minidistil.ops.kernels.register_tile import MR, NR
from minidistil.ops.kernels.register_tile_narrow import (
    INT8,
    Bf16Tile,
    Int8Tile,
    bf16_tile,
    int8_tile,
)
from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.cpu import address_of, exact, prange

CHANNELS = {"bfloat16": 2, "int8": 0 if INT8 is None else INT8.depth}  # in a step of a panel
ROOM = STEPS * (8 * MR + 4 * NR) + 8 * MR * NR  # bytes of two panels, a tile, and zeros


def peak(dtype: str, threads: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Multiplications and additions a second of a narrow format on that many threads: the best
    burst; 0 where the processor has no instruction for it."""
    depth, best, room = CHANNELS[dtype], np.inf, np.zeros((threads, ROOM), np.uint8)
    if not depth:
        return 0.0
    burst = _burst_bf16 if dtype == "bfloat16" else _burst_int8
    with cpu.threads(threads):
        burst(1, room)
        for _ in range(BURSTS):
            before = clock()
            burst(TILES, room)
            best = min(best, clock() - before)
    return threads * TILES * 2 * MR * NR * depth * STEPS / best


@exact(parallel=True)
def _burst_bf16(tiles, room):
    for t in prange(len(room)):
        a = address_of(room[t])
        b = a + 8 * MR * STEPS
        c = b + 4 * NR * STEPS
        for _ in range(tiles):
            bf16_tile(Bf16Tile(STEPS, a, b, c, 4 * NR, 0, c + 4 * MR * NR))


@exact(parallel=True)
def _burst_int8(tiles, room):
    for t in prange(len(room)):
        a = address_of(room[t])
        b = a + 4 * MR * STEPS
        c = b + 4 * NR * STEPS
        zeros = c + 4 * MR * NR
        for _ in range(tiles):
            int8_tile(Int8Tile(STEPS, a, b, c, 4 * NR, zeros, zeros, zeros, zeros, zeros))
