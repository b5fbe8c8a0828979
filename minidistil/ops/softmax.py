"""Softmax: turn a row of scores into probabilities.

    y = eˣ / Σ eˣ

Subtracting the row's maximum first changes nothing and keeps eˣ from overflowing. Since
∂yᵢ/∂xⱼ = yᵢ(δᵢⱼ − yⱼ),

    ∂x = y⊙(∂y − Σ ∂y⊙y)

A cotangent of ones gives exactly zero: the probabilities always sum to one.

Losses need the logarithm, ln y = x − lse(x) with lse(x) = ln Σ eˣ, and two numbers of each row, its
maximum and Σ e^(x − max), from which softmax and lse follow. They share the functions below.
"""

import math

import numpy as np

from minidistil.ops.runtime.cpu import exp, helper, kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_max,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    device_function,
    float32,
)
from minidistil.ops.runtime.workspace import empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x):
    """x (N,K)  ->  y (N,K), each row summing to 1, cache.

    The specification takes any number of axes before the last, too.
    """
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def backward(dy, cache):
    """dy (N,K), cache  ->  dx (N,K)."""
    y = cache
    return (y * (dy - (dy * y).sum(axis=-1, keepdims=True)),)


def log_softmax(x):
    """x (…,K)  ->  ln softmax(x) (…,K)."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


# ------------------------------------------------------- Numba: rows across cores

LANES = 64
BLOCK = 256  # terms that losses sum in float32, in vector lanes; sums of blocks are float64


def forward_cpu(x):
    y = empty_like(x)
    _forward_rows(x, y)
    return y, y


@kernel
def _forward_rows(x, y):
    N, K = x.shape
    for n in prange(N):
        top, total = row_max(x[n]), 0.0
        for k in range(K):
            y[n, k] = exp(x[n, k] - top)
            total += y[n, k]
        scale = np.float32(1 / total)
        for k in range(K):
            y[n, k] *= scale


def backward_cpu(dy, cache):
    dx = empty_like(dy)
    _backward_rows(dy, cache, dx)
    return (dx,)


@kernel
def _backward_rows(dy, y, dx):
    N, K = y.shape
    for n in prange(N):
        along = 0.0
        for k in range(K):
            along += dy[n, k] * y[n, k]
        for k in range(K):
            dx[n, k] = y[n, k] * (dy[n, k] - np.float32(along))


@helper
def row_max(x):
    """The maximum of a row.

    LLVM leaves a loop over one maximum as it is, because NaN makes the order matter: each step
    waits for the one before. LANES maxima side by side become vector instructions.
    """
    top, whole, lanes = x[0], len(x) // LANES * LANES, np.empty(LANES, x.dtype)
    for j in range(LANES):
        lanes[j] = top
    for start in range(0, whole, LANES):
        block = x[start : start + LANES]
        for j in range(LANES):
            lanes[j] = max(lanes[j], block[j])
    for j in range(LANES):
        top = max(top, lanes[j])
    for k in range(whole, len(x)):
        top = max(top, x[k])
    return top


@helper
def max_and_sum(x):
    """The maximum of a row, top, and Σ e^(x − top)."""
    top, total = row_max(x), 0.0
    for start in range(0, len(x), BLOCK):
        block, part = x[start : start + BLOCK], np.float32(0)
        for j in range(len(block)):
            part += exp(block[j] - top)
        total += part
    return top, np.float32(total)


@helper
def add_softmax(x, top, share, dx):
    """dx += share·e^(x − top) over a row or a part of it."""
    for k in range(len(x)):
        dx[k] += share * exp(x[k] - top)


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(x):
    y = device_empty(x.shape)
    _forward_kernel[x.shape[0], TEAM](x, y)
    return y, y


@cuda_kernel
def _forward_kernel(x, y):
    n, first, step, K = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    top, total = x[n, 0], float32(0)
    for k in range(first, K, step):
        top = max(top, x[n, k])
    top = block_max(top)
    for k in range(first, K, step):
        y[n, k] = math.exp(x[n, k] - top)
        total += y[n, k]
    total = block_sum(total)
    for k in range(first, K, step):
        y[n, k] /= total


def backward_cuda(dy, cache):
    dx = device_empty(dy.shape)
    _backward_kernel[dy.shape[0], TEAM](dy, cache, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(dy, y, dx):
    n, first, step, K = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, y.shape[1]
    along = float32(0)
    for k in range(first, K, step):
        along += dy[n, k] * y[n, k]
    along = block_sum(along)
    for k in range(first, K, step):
        dx[n, k] = y[n, k] * (dy[n, k] - along)


@device_function
def max_and_sum_cuda(x, n):
    """Of row n, by the threads of a block: its maximum, top, and Σ e^(x − top)."""
    first, step, K = cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    top, total = x[n, 0], float32(0)
    for k in range(first, K, step):
        top = max(top, x[n, k])
    top = block_max(top)
    for k in range(first, K, step):
        total += float32(math.exp(x[n, k] - top))
    return top, block_sum(total)
