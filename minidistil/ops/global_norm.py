"""The length of all gradients taken as one long vector, √(Σ g²), and shortening it: no backward.

The sum runs in float64: over a hundred million squares float32 would lose its small terms.
"""

import math

import numpy as np

from minidistil.ops._cpu import CHUNKS, kernel, prange
from minidistil.ops._cuda import (
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    flat,
    float32,
    to_host,
)
from minidistil.ops._memory import empty

# ------------------------------------------------------- NumPy: the specification


def norm(arrays):
    """arrays: any number of arrays of any shapes  ->  a float."""
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))


def scaled(x, factor):
    """x, any shape  ->  factor·x, a fresh array."""
    return x * x.dtype.type(factor)


# ------------------------------------------------------- Numba: chunks across cores


def norm_cpu(arrays):
    """As `norm`, and the same bits on any number of cores: the chunks are fixed."""
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


def scaled_cpu(x, factor):
    """As `scaled`."""
    y = empty(x.shape, x.dtype)
    _scale_chunks(x.reshape(-1), x.dtype.type(factor), y.reshape(-1))
    return y


@kernel
def _scale_chunks(x, factor, y):
    n = x.size
    for k in prange(CHUNKS):
        a, b = k * n // CHUNKS, (k + 1) * n // CHUNKS
        source, to = x[a:b], y[a:b]
        for i in range(source.size):
            to[i] = factor * source[i]


# ------------------------------------------------------- CUDA: chunks, a block each


def norm_cuda(arrays):
    """As `norm`, of arrays on the device: the one number of a step that clipping waits for."""
    arrays = list(arrays)
    parts = device_empty((len(arrays), CHUNKS))
    for i, a in enumerate(arrays):
        _square_kernel[CHUNKS, TEAM](a.reshape(a.size), parts[i])
    return math.sqrt(to_host(parts).sum(dtype=np.float64))


@cuda_kernel
def _square_kernel(x, parts):
    k, n, part = cuda.blockIdx.x, x.shape[0], float32(0)
    first, last = k * n // CHUNKS, (k + 1) * n // CHUNKS
    for i in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        part += x[i] * x[i]
    part = block_sum(part)
    if cuda.threadIdx.x == 0:
        parts[k] = part


def scaled_cuda(x, factor):
    """As `scaled`, on the device."""
    y = device_empty(x.shape)
    _scale_kernel[flat(x)](x.reshape(x.size), np.float32(factor), y.reshape(y.size))
    return y


@cuda_kernel
def _scale_kernel(x, factor, y):
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] = factor * x[i]
