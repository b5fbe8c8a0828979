"""Linear: a matrix product and a bias, y = x·Wᵀ + b.

W holds one row for each output channel, as PyTorch stores it, hence the transpose. With
y[n,o] = Σ_c x[n,c]·W[o,c] + b[o], each factor's gradient is ∂y times the other factor:

    ∂x = ∂y·W          ∂W = ∂yᵀ·x          ∂b = Σ_n ∂y[n]

Three products of the same size, so a backward costs twice its forward.
"""

import numpy as np

from minidistil.ops.kernels import matmul_cuda
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.runtime.cpu import CHUNKS, kernel, prange
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, float32

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), cache."""
    return x @ weight.T + bias, (x, weight)


def backward(dy, cache):
    """dy (N,O), cache  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    x, weight = cache
    return dy @ weight, dy.T @ x, sum_of_rows(dy)


def sum_of_rows(x):
    """x (N,C)  ->  (C,), in float64: NumPy adds rows one by one, which rounds N times where its
    pairwise sums along a row round log N times."""
    return x.sum(axis=0, dtype=np.float64).astype(x.dtype)


# ------------------------------------------------------- Numba: rows across cores

RUN = 128  # rows that are summed by themselves before their sum is added to that of the chunk


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
        stop = (k + 1) * N // CHUNKS
        for start in range(k * N // CHUNKS, stop, RUN):
            run = np.zeros(O, np.float32)
            for n in range(start, min(start + RUN, stop)):
                for o in range(O):
                    run[o] += dy[n, o]
            for o in range(O):
                partial[k, o] += run[o]


# ------------------------------------------------------- CUDA: tiles of the product, a block each

ACROSS, DOWN = 32, 8  # threads of a block that sums columns; neighbours read neighbours


def forward_cuda(x, weight, bias):
    return matmul_cuda.matmul(x, weight, transpose_b=True, bias=bias), (x, weight)


def backward_cuda(dy, cache):
    x, weight = cache
    dx, dweight = matmul_cuda.matmul(dy, weight), matmul_cuda.matmul(dy, x, transpose_a=True)
    return dx, dweight, column_sums_cuda(dy)


def column_sums_cuda(dy, out=None, O=None):
    """dy (N,O)  ->  (O,). out: where to add the sums; O: how many columns, if dy has more."""
    O = dy.shape[1] if O is None else O
    partial = device_empty((CHUNKS, O))
    _sum_chunks_kernel[(-(-O // ACROSS), CHUNKS), (ACROSS, DOWN)](dy, partial)
    return matmul_cuda.sum_parts(partial, out)


@cuda_kernel
def _sum_chunks_kernel(dy, partial):
    sums = cuda.shared.array((DOWN, ACROSS), float32)
    i, o = cuda.threadIdx.y, cuda.blockIdx.x * ACROSS + cuda.threadIdx.x
    k, N, total = cuda.blockIdx.y, dy.shape[0], float32(0)
    if o < partial.shape[1]:
        for n in range(k * N // CHUNKS + i, (k + 1) * N // CHUNKS, DOWN):
            total += dy[n, o]
    sums[i, cuda.threadIdx.x] = total
    cuda.syncthreads()
    if i == 0 and o < partial.shape[1]:
        for j in range(1, DOWN):
            total += sums[j, cuda.threadIdx.x]
        partial[k, o] = total
