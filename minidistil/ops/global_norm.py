"""Global gradient norm, √(Σ g²) over all arrays, and scaling them all: no backward.

The sum is float64: among a hundred million squares float32 would lose the small ones.
"""

import math

import numpy as np

from minidistil.ops.kernels.many_arrays_cuda import COUNT, FIRST, float_at, put_float, table
from minidistil.ops.runtime.cpu import CHUNKS, kernel, prange
from minidistil.ops.runtime.cuda import (
    FLAT,
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    float32,
    to_host,
)
from minidistil.ops.runtime.workspace import empty

# ------------------------------------------------------- NumPy: the specification


def norm(arrays):
    """arrays: any number of arrays of any shapes  ->  a float."""
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))


def scaled(arrays, factor):
    """arrays: any number of arrays of any shapes  ->  yields factor times each, a fresh array."""
    for x in arrays:
        yield x * x.dtype.type(factor)


# ------------------------------------------------------- Numba: chunks across cores


def norm_cpu(arrays):
    """As `norm`. The chunks are fixed, so the bits do not depend on the number of cores."""
    total, parts = 0.0, np.empty(CHUNKS)
    for a in arrays:
        _square_chunks(a.reshape(-1), parts)
        total += float(parts.sum())
    return math.sqrt(total)


@kernel
def _square_chunks(x, parts):
    n = x.size
    for k in prange(CHUNKS):
        chunk, total = x[k * n // CHUNKS : (k + 1) * n // CHUNKS], 0.0
        for i in range(chunk.size):
            total += np.float64(chunk[i]) * np.float64(chunk[i])
        parts[k] = total


def scaled_cpu(arrays, factor):
    """As `scaled`."""
    for x in arrays:
        y = empty(x.shape, x.dtype)
        _scale_chunks(x.reshape(-1), x.dtype.type(factor), y.reshape(-1))
        yield y


@kernel
def _scale_chunks(x, factor, y):
    n = x.size
    for k in prange(CHUNKS):
        a, b = k * n // CHUNKS, (k + 1) * n // CHUNKS
        source, to = x[a:b], y[a:b]
        for i in range(source.size):
            to[i] = factor * source[i]


# ------------------------------------------------------- CUDA: a block for each piece


def norm_cuda(arrays):
    """As `norm`, of arrays on the device. Waits for the result."""
    where = table((a,) for a in arrays)
    parts = device_empty(where.shape[0])
    _square_kernel[where.shape[0], TEAM](where, parts)
    return math.sqrt(to_host(parts).sum(dtype=np.float64))


@cuda_kernel
def _square_kernel(table, parts):
    b, part = cuda.blockIdx.x, float32(0)
    x = table[b, FIRST]
    for i in range(cuda.threadIdx.x, table[b, COUNT], cuda.blockDim.x):
        xi = float_at(x, i)
        part += xi * xi
    part = block_sum(part)
    if cuda.threadIdx.x == 0:
        parts[b] = part


def scaled_cuda(arrays, factor):
    """As `scaled`, on the device, all at once."""
    pairs = [(x, device_empty(x.shape)) for x in arrays]
    where = table(pairs)
    _scale_kernel[where.shape[0], FLAT](where, np.float32(factor))
    yield from (y for _, y in pairs)


@cuda_kernel
def _scale_kernel(table, factor):
    b = cuda.blockIdx.x
    x, y = table[b, FIRST], table[b, FIRST + 1]
    for i in range(cuda.threadIdx.x, table[b, COUNT], cuda.blockDim.x):
        put_float(y, i, factor * float_at(x, i))
