"""Peak speed of AMX: products of tiles that never leave their registers."""

import time
from collections.abc import Callable

import numpy as np

from minidistil.ops.kernels.amx_matmul import SHAPES
from minidistil.ops.kernels.amx_tile import (
    BF16,
    FORMATS,
    INT8,
    LANES,
    A,
    B,
    C,
    _call,
    configure,
    loop,
    release,
)
from minidistil.ops.kernels.peak_cpu import BURSTS
from minidistil.ops.kernels.register_tile import I8
from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.cpu import exact, intrinsic, prange, types

STEPS = 20_000  # of 4 products, 16 cycles each: about half a millisecond


def peak(kind: int, threads: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Multiplications and additions a second of BF16 or INT8 on that many threads: the best burst.

    HIGHEST, float32 through six products of bfloat16, is at most a sixth of BF16.
    """
    best = np.inf
    with cpu.threads(threads):
        _burst(kind, threads, 1)
        for _ in range(BURSTS):
            before = clock()
            _burst(kind, threads, STEPS)
            best = min(best, clock() - before)
    products = threads * STEPS * len(C)
    return products * 2 * LANES * LANES * FORMATS[kind].channels / best


@exact(parallel=True)
def _burst(kind, threads, steps):
    for _ in prange(threads):
        configure(SHAPES.ctypes.data)
        if kind == INT8:
            products(INT8, steps)
        else:
            products(BF16, steps)
        release()


def emit_products(builder, steps, kind):
    """steps × the four products of a block of 2 × 2 tiles, without its loads."""
    for register in (*C, *A, *B):
        _call(builder, "tilezero", I8(register))

    def step(_, here):
        for c in C:
            _call(builder, FORMATS[kind].dot, I8(c), I8(A[c // 2]), I8(B[c % 2]))

    loop(builder, steps, [], step)


@intrinsic(prefer_literal=True)
def products(typingctx, kind, steps):
    """`emit_products` for a format known when this is compiled."""
    which = kind.literal_value

    def codegen(context, builder, sig, args):
        emit_products(builder, args[1], which)
        return context.get_dummy_value()

    return types.void(kind, types.int64), codegen
