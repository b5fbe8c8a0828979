"""Residual sum and LayerNorm in one pass: y = LN(x + z), the end of each half of a block.

Memory limits the speed of both, so what counts is how often a row is read and written. The sum
s = x + z stays in the first-level cache until it is normalised, and has no array of its own.

Both terms receive the gradient of the sum, so ∂x = ∂z is what `layernorm.py` derives for ∂s:

    ∂x = ∂z = r·(∂ŝ − mean(∂ŝ) − ŝ·mean(∂ŝ⊙ŝ))          ∂ŝ = γ⊙∂y
"""

import math

import numpy as np

from minidistil.ops import add, layernorm
from minidistil.ops.layernorm import moments
from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import TEAM, cuda, cuda_kernel, device_empty
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x, z, gamma, beta, *, eps=1e-12, keep=True):
    """x, z (N,C), gamma (C,), beta (C,)  ->  y (N,C), cache, None with keep=False (inference)."""
    s, _ = add.forward(x, z)
    y, cache = layernorm.forward(s, gamma, beta, eps=eps)
    return y, cache if keep else None


def backward(dy, cache):
    """dy (N,C), cache  ->  dx, dz (N,C), which are one array, dgamma (C,), dbeta (C,)."""
    ds, dgamma, dbeta = layernorm.backward(dy, cache)
    return ds, ds, dgamma, dbeta


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, z, gamma, beta, *, eps=1e-12, keep=True):
    y, kept = empty_like(x), len(x) if keep else 0
    shat, rstd = empty((kept, len(gamma)), x.dtype), empty((kept, 1), x.dtype)
    _forward_rows(x, z, gamma, beta, eps, y, shat, rstd)
    return y, (shat, rstd, gamma) if keep else None


@kernel
def _forward_rows(x, z, gamma, beta, eps, y, shat, rstd):
    N, C = x.shape
    for n in prange(N):
        mu = var = 0.0
        for c in range(C):
            y[n, c] = x[n, c] + z[n, c]  # the sum, until y replaces it
            mu += y[n, c]
        mu /= C
        for c in range(C):
            var += (y[n, c] - mu) ** 2
        r = 1 / math.sqrt(var / C + eps)
        if len(shat):
            for c in range(C):
                shat[n, c] = (y[n, c] - mu) * r
            rstd[n, 0] = r
        for c in range(C):
            y[n, c] = gamma[c] * ((y[n, c] - mu) * r) + beta[c]


def backward_cpu(dy, cache):
    ds, dgamma, dbeta = layernorm.backward_cpu(dy, cache)
    return ds, ds, dgamma, dbeta


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(x, z, gamma, beta, *, eps=1e-12, keep=True):
    y, kept = device_empty(x.shape), len(x) if keep else 0
    shat, rstd = device_empty((kept, len(gamma))), device_empty((kept, 1))
    _forward_kernel[len(x), TEAM](x, z, gamma, beta, np.float32(eps), y, shat, rstd)
    return y, (shat, rstd, gamma) if keep else None


@cuda_kernel
def _forward_kernel(x, z, gamma, beta, eps, y, shat, rstd):
    n, first, step, C = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    for c in range(first, C, step):
        y[n, c] = x[n, c] + z[n, c]  # the sum; a thread reads again only what it wrote itself
    mu, r = moments(y, n, first, step, C, eps)
    for c in range(first, C, step):
        normal = (y[n, c] - mu) * r
        if shat.shape[0] > 0:
            shat[n, c] = normal
        y[n, c] = gamma[c] * normal + beta[c]
    if first == 0 and rstd.shape[0] > 0:
        rstd[n, 0] = r


def backward_cuda(dy, cache):
    ds, dgamma, dbeta = layernorm.backward_cuda(dy, cache)
    return ds, ds, dgamma, dbeta
