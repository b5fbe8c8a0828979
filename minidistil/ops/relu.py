"""ReLU: replace negative values by 0. DistilBERT's classifier has it where BERT's pooler has tanh.

    y = max(x, 0)          ∂x = ∂y where x > 0, else 0

At x = 0, where no derivative exists, the gradient is 0, as in PyTorch.
"""

import numpy as np

from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, flat, float32
from minidistil.ops.runtime.workspace import empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x):
    """x (N,C)  ->  y (N,C), cache."""
    return np.maximum(x, 0), x


def backward(dy, cache):
    """dy (N,C), cache  ->  dx (N,C)."""
    return (dy * (cache > 0),)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x):
    y = empty_like(x)
    _forward_rows(x, y)
    return y, x


@kernel
def _forward_rows(x, y):
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[n, c] = np.float32(0) if x[n, c] < 0 else x[n, c]  # NaN stays NaN


def backward_cpu(dy, cache):
    dx = empty_like(dy)
    _backward_rows(dy, cache, dx)
    return (dx,)


@kernel
def _backward_rows(dy, x, dx):
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            dx[n, c] = dy[n, c] if x[n, c] > 0 else np.float32(0)


# ------------------------------------------------------- CUDA: a thread for each number


def forward_cuda(x):
    y = device_empty(x.shape)
    _forward_kernel[flat(x)](x, y)
    return y, x


@cuda_kernel
def _forward_kernel(x, y):
    at, C = cuda.grid(1), x.shape[1]
    if at < x.shape[0] * C:
        v = x[at // C, at % C]
        y[at // C, at % C] = float32(0) if v < float32(0) else v  # NaN stays NaN


def backward_cuda(dy, cache):
    dx = device_empty(dy.shape)
    _backward_kernel[flat(dy)](dy, cache, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(dy, x, dx):
    at, C = cuda.grid(1), x.shape[1]
    if at < x.shape[0] * C:
        passes = x[at // C, at % C] > float32(0)
        dx[at // C, at % C] = dy[at // C, at % C] if passes else float32(0)
