"""Peak speeds of a device, for the benchmark: kernels that do one thing only.

Each function takes whether the device is real (a simulated one gets a small size). It returns a
function to run, and the number of bytes or operations of one run.
"""

from collections.abc import Callable
from functools import cache

from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_zeros, flat, float32, uint32
from minidistil.ops.runtime.ptx import load4, mma_bf16, mma_tf32, store4

BLOCKS, THREADS, STEPS = 2048, 256, 4096  # enough to keep a device busy for milliseconds


def copy(large: bool) -> tuple[Callable[[], None], int]:
    """Memory bandwidth, reading and writing: four floats a thread."""
    n = 1 << 26 if large else 256
    x, y = device_zeros(n), device_zeros(n)
    grid, threads = flat(x)
    grid = -(-grid // 4)
    return lambda: _copy_kernel[grid, threads](x, y), 8 * n


@cuda_kernel
def _copy_kernel(x, y):
    at = 4 * cuda.grid(1)
    if at + 4 <= x.shape[0]:
        four = load4(x, at)
        store4(y, at, four[0], four[1], four[2], four[3])


def multiply_add(large: bool) -> tuple[Callable[[], None], int]:
    """float32 outside tensor cores: eight independent sums a thread."""
    blocks, threads, steps = _load(large)
    out = device_zeros(blocks * threads)
    return lambda: _multiply_add_kernel[blocks, threads](out, steps), 16 * out.size * steps


def _load(large):
    return (BLOCKS, THREADS, STEPS) if large else (1, 32, 2)


@cuda_kernel
def _multiply_add_kernel(out, steps):
    sums = cuda.local.array(8, float32)
    at = cuda.grid(1)
    x = out[at] + float32(0.5)
    for i in range(8):
        sums[i] = float32(i)
    for _ in range(steps):
        for i in range(8):
            sums[i] = sums[i] * x + x
    total = float32(0)
    for i in range(8):
        total += sums[i]
    out[at] = total * float32(0)


def tf32(large: bool) -> tuple[Callable[[], None], int]:
    """Tensor cores in tf32: four independent 16 × 8 products of 8 steps a warp."""
    return _tensor(large, False, 8)


def bf16(large: bool) -> tuple[Callable[[], None], int]:
    """Tensor cores in bfloat16: the same with 16 steps."""
    return _tensor(large, True, 16)


def _tensor(large, narrow, depth):
    blocks, threads, steps = _load(large)
    out, kernel = device_zeros(blocks * threads), tensor_peak(narrow)
    amount = blocks * threads // 32 * steps * 4 * 2 * 16 * 8 * depth
    return lambda: kernel[blocks, threads](out, steps), amount


@cache
def tensor_peak(narrow):
    """The kernel that multiplies its registers, in bfloat16 or in tf32."""

    @cuda_kernel
    def tensor(out, steps):
        one, zero = uint32(0), float32(0)
        a, b = (one, one, one, one), (one, one)
        c0 = c1 = c2 = c3 = (zero, zero, zero, out[cuda.grid(1)])
        for _ in range(steps):
            if narrow:
                c0, c1 = mma_bf16(a, b, c0), mma_bf16(a, b, c1)
                c2, c3 = mma_bf16(a, b, c2), mma_bf16(a, b, c3)
            else:
                c0, c1 = mma_tf32(a, b, c0), mma_tf32(a, b, c1)
                c2, c3 = mma_tf32(a, b, c2), mma_tf32(a, b, c3)
        out[cuda.grid(1)] = (c0[0] + c1[0] + c2[0] + c3[0]) * zero

    return tensor
