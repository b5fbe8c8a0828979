"""tanh, the activation of BERT's pooler.

    y = tanh(x)          ∂x = ∂y·(1 − y²)

The derivative needs y alone, so the cache holds nothing else.
"""

import math

import numpy as np

from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cpu import tanh as tanh32
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, flat, float32
from minidistil.ops.runtime.workspace import empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x):
    """x (N,C)  ->  y (N,C), cache."""
    y = np.tanh(x)
    return y, y


def backward(dy, cache):
    """dy (N,C), cache  ->  dx (N,C)."""
    y = cache
    return (dy * (1 - y * y),)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x):
    y = empty_like(x)
    _forward_rows(x, y)
    return y, y


@kernel
def _forward_rows(x, y):
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[n, c] = tanh32(x[n, c])


def backward_cpu(dy, cache):
    dx = empty_like(dy)
    _backward_rows(dy, cache, dx)
    return (dx,)


@kernel
def _backward_rows(dy, y, dx):
    for n in prange(y.shape[0]):
        for c in range(y.shape[1]):
            dx[n, c] = dy[n, c] * (np.float32(1) - y[n, c] * y[n, c])


# ------------------------------------------------------- CUDA: a thread for each number


def forward_cuda(x):
    y = device_empty(x.shape)
    _forward_kernel[flat(x)](x, y)
    return y, y


@cuda_kernel
def _forward_kernel(x, y):
    at, C = cuda.grid(1), x.shape[1]
    if at < x.shape[0] * C:
        y[at // C, at % C] = math.tanh(x[at // C, at % C])


def backward_cuda(dy, cache):
    dx = device_empty(dy.shape)
    _backward_kernel[flat(dy)](dy, cache, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(dy, y, dx):
    at, C = cuda.grid(1), y.shape[1]
    if at < y.shape[0] * C:
        v = y[at // C, at % C]
        dx[at // C, at % C] = dy[at // C, at % C] * (float32(1) - v * v)
