"""Moments: the mean and the variance of each token's vector over its channels.

    μ = Σ x / C          v = Σ (x − μ)² / C
    ∂x = ∂μ/C + ∂v·2(x − μ)/C

Source: Sun et al., "MobileBERT", 2020, §3.4, which transfers both from teacher to student.
"""

import numpy as np

from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import TEAM, block_sum, cuda, cuda_kernel, device_empty, float32
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x):
    """x (N,C)  ->  y (2,N), the means and the variances, cache."""
    mean = x.mean(axis=1)
    return np.stack([mean, ((x - mean[:, None]) ** 2).mean(axis=1)]), (x, mean)


def backward(dy, cache):
    """dy (2,N), cache  ->  dx (N,C)."""
    x, mean = cache
    dmean, dvariance = dy[:, :, None] / x.dtype.type(x.shape[1])  # (N,1)
    return (dmean + dvariance * 2 * (x - mean[:, None]),)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x):
    y = empty((2, len(x)))
    _forward_rows(x, y)
    return y, (x, y)


@kernel
def _forward_rows(x, y):
    N, C = x.shape
    for n in prange(N):
        total = 0.0
        for c in range(C):
            total += x[n, c]
        mean, squares = np.float32(total / C), 0.0
        for c in range(C):
            squares += (x[n, c] - mean) ** 2
        y[0, n], y[1, n] = mean, squares / C


def backward_cpu(dy, cache):
    x, y = cache
    dx = empty_like(x)
    _backward_rows(dy, x, y, dx)
    return (dx,)


@kernel
def _backward_rows(dy, x, y, dx):
    N, C = x.shape
    for n in prange(N):
        mean, a, b = y[0, n], dy[0, n] / np.float32(C), np.float32(2) * dy[1, n] / np.float32(C)
        for c in range(C):
            dx[n, c] = a + b * (x[n, c] - mean)


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(x):
    y = device_empty((2, x.shape[0]))
    _forward_kernel[x.shape[0], TEAM](x, y)
    return y, (x, y)


@cuda_kernel
def _forward_kernel(x, y):
    n, me, step, C = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    part = float32(0)
    for c in range(me, C, step):
        part += x[n, c]
    mean, part = block_sum(part) / float32(C), float32(0)
    for c in range(me, C, step):
        part += (x[n, c] - mean) * (x[n, c] - mean)
    part = block_sum(part)
    if me == 0:
        y[0, n], y[1, n] = mean, part / float32(C)


def backward_cuda(dy, cache):
    x, y = cache
    dx = device_empty(x.shape)
    _backward_kernel[x.shape[0], TEAM](dy, x, y, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(dy, x, y, dx):
    n, C = cuda.blockIdx.x, x.shape[1]
    a, b = dy[0, n] / float32(C), float32(2) * dy[1, n] / float32(C)
    for c in range(cuda.threadIdx.x, C, cuda.blockDim.x):
        dx[n, c] = a + b * (x[n, c] - y[0, n])
