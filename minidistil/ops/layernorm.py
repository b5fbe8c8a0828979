"""LayerNorm: give every token mean 0 and variance 1, then scale and shift.

For one row x of C channels (all sums and means run over channels):

    μ = mean(x)        r = 1/√(mean((x−μ)²) + ε)        x̂ = (x−μ)·r
    y = γ⊙x̂ + β

Backward, writing ∂t for ∂loss/∂t. γ and β are shared by all N rows, so their gradients are sums
over rows; x is not, so its gradient stays within the row:

    ∂β = Σ_rows ∂y      ∂γ = Σ_rows ∂y⊙x̂      ∂x̂ = γ⊙∂y

x̂ depends on x in three ways: directly, through μ and through r. With
∂x̂ᵢ/∂xⱼ = r·(δᵢⱼ − 1/C − x̂ᵢx̂ⱼ/C), summing ∂x̂ᵢ·∂x̂ᵢ/∂xⱼ over i gives

    ∂x = r·(∂x̂ − mean(∂x̂) − x̂·mean(∂x̂⊙x̂))

that is, ∂x̂ without its components along 1 and along x̂: adding a constant to a row or scaling it
does not change y (up to ε).
Source: Ba, Kiros & Hinton, "Layer normalization", 2016, eq. 4.
"""

import math

import numpy as np

from minidistil.ops.kernels.matmul_cuda import sum_parts
from minidistil.ops.linear import sum_of_rows
from minidistil.ops.runtime.cpu import CHUNKS, kernel, own_code, prange, serial
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    device_function,
    float32,
)
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x, gamma, beta, *, eps=1e-12):
    """x (N,C), gamma (C,), beta (C,)  ->  y (N,C), cache."""
    mu = x.mean(axis=1, keepdims=True)  # (N,1)
    var = ((x - mu) ** 2).mean(axis=1, keepdims=True)  # (N,1)
    rstd = 1 / np.sqrt(var + eps)  # (N,1)
    xhat = (x - mu) * rstd  # (N,C)
    return gamma * xhat + beta, (xhat, rstd, gamma)


def backward(dy, cache):
    """dy (N,C), cache  ->  dx (N,C), dgamma (C,), dbeta (C,)."""
    xhat, rstd, gamma = cache
    dxhat = gamma * dy  # (N,C)
    along_one = dxhat.mean(axis=1, keepdims=True)  # (N,1)
    along_xhat = (dxhat * xhat).mean(axis=1, keepdims=True)  # (N,1)
    dx = rstd * (dxhat - along_one - xhat * along_xhat)  # (N,C)
    return dx, sum_of_rows(dy * xhat), sum_of_rows(dy)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, gamma, beta, *, eps=1e-12):
    y, xhat, rstd = empty_like(x), empty_like(x), empty((len(x), 1), x.dtype)
    _forward_rows(x, gamma, beta, eps, y, xhat, rstd)
    return y, (xhat, rstd, gamma)


@kernel
def _forward_rows(x, gamma, beta, eps, y, xhat, rstd):
    N, C = x.shape
    for n in prange(N):
        mu = var = 0.0
        for c in range(C):
            mu += x[n, c]
        mu /= C
        for c in range(C):
            var += (x[n, c] - mu) ** 2
        r = 1 / math.sqrt(var / C + eps)
        for c in range(C):
            xhat[n, c] = (x[n, c] - mu) * r
            y[n, c] = gamma[c] * xhat[n, c] + beta[c]
        rstd[n, 0] = r


def backward_cpu(dy, cache):
    xhat, rstd, gamma = cache
    dx = empty_like(dy)
    dgamma, dbeta = np.zeros((2, CHUNKS, len(gamma)), dy.dtype)
    _backward_chunks(dy, xhat, rstd, gamma, dx, dgamma, dbeta)
    return dx, dgamma.sum(axis=0), dbeta.sum(axis=0)


@kernel
def _backward_chunks(dy, xhat, rstd, gamma, dx, dgamma, dbeta):
    # dgamma and dbeta sum over rows: two cores that add to one cell at the same time would lose
    # updates. Each chunk k of rows therefore fills a row k of its own.
    N, C = dy.shape
    for k in prange(CHUNKS):
        for n in range(k * N // CHUNKS, (k + 1) * N // CHUNKS):
            _backward_row(dy[n], xhat[n], rstd[n, 0], gamma, dx[n])
            for c in range(C):
                dgamma[k, c] += dy[n, c] * xhat[n, c]
                dbeta[k, c] += dy[n, c]


@serial
def _backward_row(dy, xhat, rstd, gamma, dx):
    own_code()
    one = hat = np.float32(0)  # sums of some hundred terms, in vector lanes
    for c in range(len(dy)):
        dxhat = gamma[c] * dy[c]
        one += dxhat
        hat += dxhat * xhat[c]
    one, hat = one / np.float32(len(dy)), hat / np.float32(len(dy))
    for c in range(len(dy)):
        dx[c] = rstd * (gamma[c] * dy[c] - one - xhat[c] * hat)


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(x, gamma, beta, *, eps=1e-12):
    y, xhat, rstd = device_empty(x.shape), device_empty(x.shape), device_empty((len(x), 1))
    _forward_kernel[len(x), TEAM](x, gamma, beta, np.float32(eps), y, xhat, rstd)
    return y, (xhat, rstd, gamma)


@cuda_kernel
def _forward_kernel(x, gamma, beta, eps, y, xhat, rstd):
    n, first, step, C = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    mu, r = moments(x, n, first, step, C, eps)
    for c in range(first, C, step):
        xhat[n, c] = (x[n, c] - mu) * r
        y[n, c] = gamma[c] * xhat[n, c] + beta[c]
    if first == 0:
        rstd[n, 0] = r


@device_function
def moments(x, n, first, step, C, eps):
    """The mean of row n, and one over its standard deviation."""
    total, square = float32(0), float32(0)
    for c in range(first, C, step):
        total += x[n, c]
    mu = block_sum(total) / float32(C)
    for c in range(first, C, step):
        square += (x[n, c] - mu) * (x[n, c] - mu)
    return mu, float32(1) / float32(math.sqrt(block_sum(square) / float32(C) + eps))


def backward_cuda(dy, cache):
    xhat, rstd, gamma = cache
    dx = device_empty(dy.shape)
    _backward_kernel[len(dy), TEAM](dy, xhat, rstd, gamma, dx)
    dgamma, dbeta = (device_empty((CHUNKS, len(gamma))) for _ in range(2))
    _columns_kernel[(-(-len(gamma) // TEAM), CHUNKS), TEAM](dy, xhat, dgamma, dbeta)
    return dx, sum_parts(dgamma), sum_parts(dbeta)


@cuda_kernel
def _backward_kernel(dy, xhat, rstd, gamma, dx):
    n, first, step, C = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, dy.shape[1]
    one, hat = float32(0), float32(0)
    for c in range(first, C, step):
        dxhat = gamma[c] * dy[n, c]
        one += dxhat
        hat += dxhat * xhat[n, c]
    one, hat = block_sum(one) / float32(C), block_sum(hat) / float32(C)
    for c in range(first, C, step):
        dx[n, c] = rstd[n, 0] * (gamma[c] * dy[n, c] - one - xhat[n, c] * hat)


@cuda_kernel
def _columns_kernel(dy, xhat, dgamma, dbeta):
    c, k, N = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y, dy.shape[0]
    if c < dy.shape[1]:
        gamma, beta = float32(0), float32(0)
        for n in range(k * N // CHUNKS, (k + 1) * N // CHUNKS):
            gamma += dy[n, c] * xhat[n, c]
            beta += dy[n, c]
        dgamma[k, c], dbeta[k, c] = gamma, beta
