"""The scheduler that runs CUDA kernels as Python: it has to see what a device would punish.

    NUMBA_ENABLE_CUDASIM=1 pytest tests/ops/test_simulator.py -m cuda

The other CUDA tests trust it, so its shuffles, its barriers and the reductions that are made of
them are checked here against sums that are written out.
"""

import numpy as np
import pytest

from minidistil.ops.runtime.cuda import (
    ALL,
    SIMULATED,
    WARP,
    block_max,
    block_sum,
    cuda,
    cuda_kernel,
    to_device,
    to_host,
    warp_sum,
)

pytestmark = pytest.mark.cuda
if not SIMULATED:  # and no kernel is declared, which another test would miss among those compiled
    pytest.skip("a device has a scheduler of its own", allow_module_level=True)


def launched(kernel, *arrays, threads):
    """The arrays after one block of the kernel."""
    there = [to_device(x) for x in arrays]
    kernel[1, threads](*there)
    return [to_host(x) for x in there]


def counting(n):
    return np.arange(1, n + 1, dtype=np.float32)


# ------------------------------------------------------- what lanes and threads tell one another


@cuda_kernel
def shuffles(x, y):
    i = cuda.threadIdx.x
    y[0, i] = cuda.shfl_sync(ALL, x[i], 3)
    y[1, i] = cuda.shfl_xor_sync(ALL, x[i], 1)
    y[2, i] = cuda.shfl_down_sync(ALL, x[i], 4)
    y[3, i] = cuda.shfl_up_sync(ALL, x[i], 4)


def test_shuffles_stay_in_their_warp():
    x = counting(2 * WARP)
    _, y = launched(shuffles, x, np.zeros((4, x.size), np.float32), threads=x.size)
    warps, lane = x.reshape(2, WARP), np.arange(WARP)
    sources = (lane * 0 + 3, lane ^ 1, np.where(lane < 28, lane + 4, lane),
               np.where(lane > 3, lane - 4, lane))  # fmt: skip
    for mine, source in zip(y, sources, strict=True):
        np.testing.assert_array_equal(mine.reshape(2, WARP), warps[:, source])


@cuda_kernel
def reductions(x, y):
    i = cuda.threadIdx.x
    y[0, i] = warp_sum(x[i])
    y[1, i] = block_sum(x[i])
    y[2, i] = block_max(x[i])


@pytest.mark.parametrize("threads", [WARP, 3 * WARP])
def test_reductions_reach_every_thread(threads):
    x = counting(threads) - 40  # the largest of a warp is negative
    _, y = launched(reductions, x, np.zeros((3, threads), np.float32), threads=threads)
    np.testing.assert_array_equal(y[0], np.repeat(x.reshape(-1, WARP).sum(1), WARP))
    np.testing.assert_array_equal(y[1], np.full(threads, x.sum()))
    np.testing.assert_array_equal(y[2], np.full(threads, x.max()))


@cuda_kernel
def reverses(x):
    i, last = cuda.threadIdx.x, cuda.blockDim.x - 1
    mine = x[last - i]
    cuda.syncthreads()
    x[i] = mine


@cuda_kernel
def reverses_too_early(x):
    i, last = cuda.threadIdx.x, cuda.blockDim.x - 1
    x[i] = x[last - i]


def test_a_barrier_holds_everybody_and_its_absence_shows():
    x = counting(2 * WARP)
    np.testing.assert_array_equal(launched(reverses, x, threads=x.size)[0], x[::-1])
    assert not np.array_equal(launched(reverses_too_early, x, threads=x.size)[0], x[::-1])


# ------------------------------------------------------- barriers that some never reach


@cuda_kernel
def returns_before_a_barrier(x):
    if cuda.threadIdx.x >= x.shape[0]:
        return
    cuda.syncthreads()
    x[cuda.threadIdx.x] = 0


@cuda_kernel
def returns_before_a_shuffle(x):
    i = cuda.threadIdx.x
    if i < x.shape[0]:
        x[i] = cuda.shfl_xor_sync(ALL, x[i], 1)


@cuda_kernel
def waits_in_two_places(x):
    if cuda.threadIdx.x < x.shape[0]:
        cuda.syncthreads()
    else:
        cuda.syncwarp()


@pytest.mark.parametrize("kernel, gone", [
    (returns_before_a_barrier, 59), (returns_before_a_shuffle, 59), (waits_in_two_places, 32),
])  # fmt: skip
def test_a_divergent_barrier_raises(kernel, gone):
    with pytest.raises(RuntimeError, match=f"divergent barrier: {gone} of 64 threads returned"):
        launched(kernel, counting(5), threads=2 * WARP)


def test_a_whole_block_or_a_last_short_warp_may_go():
    """Nobody waits for a thread that never was."""
    np.testing.assert_array_equal(
        launched(returns_before_a_barrier, counting(40), threads=40)[0], 0
    )
    empty = launched(returns_before_a_barrier, counting(0), threads=WARP)[0]
    assert empty.size == 0
