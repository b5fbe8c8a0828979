"""Linear: a matrix product and a shift, y = x·Wᵀ + b.

W holds one row for each output channel, as PyTorch stores it, hence the transpose. With
y[n,o] = Σ_c x[n,c]·W[o,c] + b[o], each factor's gradient is ∂y times the other factor:

    ∂x = ∂y·W          ∂W = ∂yᵀ·x          ∂b = Σ_n ∂y[n]

Three products of the same size, so a backward costs twice its forward.
"""

import numpy as np

from minidistil.ops._cpu import CHUNKS, kernel, prange
from minidistil.ops._gemm import matmul

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), cache."""
    return x @ weight.T + bias, (x, weight)


def backward(dy, cache):
    """dy (N,O), cache  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    x, weight = cache
    return dy @ weight, dy.T @ x, dy.sum(axis=0)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, weight, bias):
    return matmul(x, weight.T, bias=bias), (x, weight)


def backward_cpu(dy, cache):
    x, weight = cache
    return matmul(dy, weight), matmul(dy.T, x), column_sums(dy)


def column_sums(dy):
    """dy (N,O)  ->  (O,)."""
    partial = np.zeros((CHUNKS, dy.shape[1]), np.float32)
    _sum_chunks(dy, partial)
    return partial.sum(axis=0)


@kernel
def _sum_chunks(dy, partial):
    N, O = dy.shape
    for k in prange(CHUNKS):
        for n in range(k * N // CHUNKS, (k + 1) * N // CHUNKS):
            for o in range(O):
                partial[k, o] += dy[n, o]
