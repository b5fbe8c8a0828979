"""Absolute error, whose gradient has the same size for small and large differences.

    y = Σ |x − target| / n          ∂x = ∂y·sign(x − target)/n

over the selected rows; n is rows times channels. Where x equals the target the gradient is 0.
Source: PyTorch's `L1Loss`.
"""

import numpy as np

from minidistil.ops.kl_div import selected
from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    device_zeros,
    float32,
    floats_to_device,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import zeros

# ------------------------------------------------------- NumPy: the specification


def forward(x, *, target, mask=None):
    """x (N,C), target (N,C), mask (N,) bool or None (all rows)  ->  y (), cache.

    Raises ValueError for a mask that selects no row.
    """
    rows = selected(mask, len(x))
    error = x[rows] - target[rows]  # (M,C)
    return np.abs(error).sum() / x.dtype.type(error.size), (error, rows, x.shape)


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C)."""
    error, rows, shape = cache
    dx = np.zeros(shape, error.dtype)
    dx[rows] = np.sign(error) * (dy / error.size)
    return (dx,)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, *, target, mask=None):
    rows = selected(mask, len(x))
    sums = np.empty(len(rows))
    _forward_rows(x, target, rows, sums)
    return np.float32(sums.sum() / (len(rows) * x.shape[1])), (x, target, rows)


@kernel
def _forward_rows(x, target, rows, sums):
    for i in prange(len(rows)):
        n, part = rows[i], 0.0
        for c in range(x.shape[1]):
            part += abs(x[n, c] - target[n, c])
        sums[i] = part


def backward_cpu(dy, cache):
    x, target, rows = cache
    dx = zeros(x.shape, x.dtype)
    _backward_rows(np.float32(dy / (len(rows) * x.shape[1])), x, target, rows, dx)
    return (dx,)


@kernel
def _backward_rows(weight, x, target, rows, dx):
    for i in prange(len(rows)):
        n = rows[i]
        for c in range(x.shape[1]):
            dx[n, c] = weight * np.sign(x[n, c] - target[n, c])


# ------------------------------------------------------- CUDA: a block for each selected row


def forward_cuda(x, *, target, mask=None):
    rows = selected(mask, len(x))
    sums = device_empty(len(rows))
    places, target = to_device(rows), floats_to_device(target)
    _forward_kernel[len(rows), TEAM](x, target, places, sums)
    return total(sums, 1 / (len(rows) * x.shape[1])), (x, target, places)


@cuda_kernel
def _forward_kernel(x, target, places, sums):
    i, n, part = cuda.blockIdx.x, places[cuda.blockIdx.x], float32(0)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        part += abs(x[n, c] - target[n, c])
    part = block_sum(part)
    if cuda.threadIdx.x == 0:
        sums[i] = part


def backward_cuda(dy, cache):
    x, target, places = cache
    dx = device_zeros(x.shape)
    weight = np.float32(dy / (len(places) * x.shape[1]))
    _backward_kernel[len(places), TEAM](weight, x, target, places, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(weight, x, target, places, dx):
    n = places[cuda.blockIdx.x]
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        error = x[n, c] - target[n, c]
        if error > float32(0):
            dx[n, c] = weight
        elif error < float32(0):
            dx[n, c] = -weight
        else:
            dx[n, c] = weight * error  # 0, or NaN
