"""Squared error between logits, hidden states or other numbers.

    y = Σ (x − target)² / n          ∂x = ∂y·2(x − target)/n

over the selected rows; n is rows times channels ("mean", PyTorch's default), rows ("batchmean",
which Hugging Face's distiller uses on logits) or 1 ("sum").
Source: PyTorch's `MSELoss` for the reductions "mean" and "sum".
"""

import numpy as np

from minidistil.ops.kl_div import divisor, selected
from minidistil.ops.runtime.cpu import helper, kernel, prange
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
from minidistil.ops.softmax import BLOCK

# ------------------------------------------------------- NumPy: the specification


def forward(x, *, target, mask=None, reduction="mean"):
    """x (N,C), target (N,C), mask (N,) bool or None (all rows)  ->  y (), cache.

    Raises ValueError for an unknown reduction, or a mask that selects no row.
    """
    rows = selected(mask, len(x))
    n = divisor(reduction, len(rows), x.shape[1])
    error = x[rows] - target[rows]  # (M,C)
    return (error * error).sum() / x.dtype.type(n), (error, rows, n, x.shape)


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C)."""
    error, rows, n, shape = cache
    dx = np.zeros(shape, error.dtype)
    dx[rows] = error * (2 * dy / n)
    return (dx,)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, *, target, mask=None, reduction="mean"):
    rows = selected(mask, len(x))
    n = divisor(reduction, len(rows), x.shape[1])
    sums = np.empty(len(rows))
    _forward_rows(x, target, rows, sums)
    return np.float32(sums.sum() / n), (x, target, rows, n)


@kernel
def _forward_rows(x, target, rows, sums):
    for i in prange(len(rows)):
        sums[i] = squared_distance(x[rows[i]], target[rows[i]])


@helper
def squared_distance(a, b):
    """Σ (a − b)² over a row."""
    total = 0.0
    for start in range(0, len(a), BLOCK):
        x, y, part = a[start : start + BLOCK], b[start : start + BLOCK], np.float32(0)
        for j in range(len(x)):
            part += (x[j] - y[j]) ** 2
        total += part
    return total


def backward_cpu(dy, cache):
    x, target, rows, n = cache
    dx = zeros(x.shape, x.dtype)
    _backward_rows(np.float32(2 * dy / n), x, target, rows, dx)
    return (dx,)


@kernel
def _backward_rows(weight, x, target, rows, dx):
    for i in prange(len(rows)):
        add_error(x[rows[i]], target[rows[i]], weight, dx[rows[i]])


@helper
def add_error(x, target, weight, dx):
    """dx += weight·(x − target) over a row or a part of it."""
    for c in range(len(x)):
        dx[c] += weight * (x[c] - target[c])


# ------------------------------------------------------- CUDA: a block for each selected row


def forward_cuda(x, *, target, mask=None, reduction="mean"):
    rows = selected(mask, len(x))
    n, sums = divisor(reduction, len(rows), x.shape[1]), device_empty(len(rows))
    places, target = to_device(rows), floats_to_device(target)
    _forward_kernel[len(rows), TEAM](x, target, places, sums)
    return total(sums, 1 / n), (x, target, places, n)


@cuda_kernel
def _forward_kernel(x, target, places, sums):
    i, n, part = cuda.blockIdx.x, places[cuda.blockIdx.x], float32(0)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        part += (x[n, c] - target[n, c]) * (x[n, c] - target[n, c])
    part = block_sum(part)
    if cuda.threadIdx.x == 0:
        sums[i] = part


def backward_cuda(dy, cache):
    x, target, places, n = cache
    dx = device_zeros(x.shape)
    _backward_kernel[len(places), TEAM](np.float32(2 * dy / n), x, target, places, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(weight, x, target, places, dx):
    n = places[cuda.blockIdx.x]
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        dx[n, c] = weight * (x[n, c] - target[n, c])
