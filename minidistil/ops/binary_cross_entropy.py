"""Binary cross entropy: K independent binary labels for each row (multi-label classification).

    y = 1/NK Σ softplus(z) − label·z          ∂z = ∂y/NK·(σ(z) − label)

softplus(z) = max(z, 0) + ln(1 + e^−|z|) never overflows.
Source: PyTorch's `BCEWithLogitsLoss` with reduction "mean".
"""

import math

import numpy as np

from minidistil.ops.runtime.cpu import exp, kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    float32,
    floats_to_device,
    total,
)
from minidistil.ops.runtime.workspace import empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, labels):
    """logits (N,K), labels (N,K) in [0,1]  ->  y (), cache."""
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-abs(logits)))
    return (softplus - labels * logits).mean(dtype=logits.dtype), (logits, labels)


def backward(dy, cache):
    """dy (), cache  ->  dlogits (N,K)."""
    logits, labels = cache
    e = np.exp(-abs(logits))  # never above 1
    p = np.where(logits >= 0, 1, e) / (1 + e)
    return (((p - labels) * (dy / logits.size)).astype(logits.dtype),)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, labels):
    labels = np.ascontiguousarray(labels, np.float32)
    rows = np.empty(len(logits))
    _forward_rows(logits, labels, rows)
    return np.float32(rows.sum() / logits.size), (logits, labels)


@kernel
def _forward_rows(logits, labels, rows):
    for n in prange(len(logits)):
        total = 0.0
        for k in range(logits.shape[1]):
            z = logits[n, k]
            total += max(z, np.float32(0)) + np.log1p(exp(-abs(z))) - labels[n, k] * z
        rows[n] = total


def backward_cpu(dy, cache):
    logits, labels = cache
    dlogits = empty_like(logits)
    _backward_rows(np.float32(dy / logits.size), logits, labels, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(weight, logits, labels, dlogits):
    for n in prange(len(logits)):
        for k in range(logits.shape[1]):
            p = np.float32(1) / (np.float32(1) + exp(-logits[n, k]))
            dlogits[n, k] = weight * (p - labels[n, k])


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(logits, *, labels):
    labels, rows = floats_to_device(labels), device_empty(len(logits))
    _forward_kernel[len(logits), TEAM](logits, labels, rows)
    return total(rows, 1 / logits.size), (logits, labels)


@cuda_kernel
def _forward_kernel(logits, labels, rows):
    n, part = cuda.blockIdx.x, float32(0)
    for k in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        z = logits[n, k]
        part += max(z, float32(0)) + float32(math.log1p(math.exp(-abs(z)))) - labels[n, k] * z
    part = block_sum(part)
    if cuda.threadIdx.x == 0:
        rows[n] = part


def backward_cuda(dy, cache):
    logits, labels = cache
    dlogits = device_empty(logits.shape)
    weight = np.float32(dy / logits.size)
    _backward_kernel[len(logits), TEAM](weight, logits, labels, dlogits)
    return (dlogits,)


@cuda_kernel
def _backward_kernel(weight, logits, labels, dlogits):
    n = cuda.blockIdx.x
    for k in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        z = logits[n, k]
        e = float32(math.exp(-abs(z)))  # never above 1
        p = (float32(1) if z >= float32(0) else e) / (float32(1) + e)
        dlogits[n, k] = weight * (p - labels[n, k])
