"""Cosine loss: one minus the cosine between the hidden vectors of student and teacher.

For each selected row, a of the student and b of the teacher, with A = a·a + ε and B = b·b + ε:

    cos = a·b/√(A·B)          y = mean(1 − cos)
    ∂a = −∂y/n·(b/√(A·B) − cos·a/A)

Only the direction of a matters: a·∂a is zero up to ε, so no gradient changes its length.
Source: PyTorch's `CosineEmbeddingLoss` with target +1, whose ε is 1e-12, under each root.
"""

import math

import numpy as np

from minidistil.ops.kl_div import selected
from minidistil.ops.runtime.cpu import helper, kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    device_zeros,
    float32,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import zeros
from minidistil.ops.softmax import BLOCK

EPS = 1e-12

# ------------------------------------------------------- NumPy: the specification


def forward(x, *, target, mask=None):
    """x (N,C), target (N,C), mask (N,) bool or None (all rows)  ->  y (), cache.

    Raises ValueError for a mask that selects no row.
    """
    rows = selected(mask, len(x))
    a, b = x[rows], target[rows]  # (M,C)
    A, B = (a * a).sum(axis=1) + EPS, (b * b).sum(axis=1) + EPS  # (M,)
    cos = (a * b).sum(axis=1) / np.sqrt(A * B)
    return (1 - cos).mean(), (a, b, A, B, cos, rows, x.shape)


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C)."""
    a, b, A, B, cos, rows, shape = cache
    dx = np.zeros(shape, a.dtype)
    toward = b / np.sqrt(A * B)[:, None] - a * (cos / A)[:, None]  # (M,C)
    dx[rows] = toward * (-dy / len(rows))
    return (dx,)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, *, target, mask=None):
    rows = selected(mask, len(x))
    sums = np.empty((len(rows), 3))
    _forward_rows(x, target, rows, sums)
    ab, A, B = sums.T
    return np.float32((1 - ab / np.sqrt(A * B)).mean()), (x, target, rows, sums)


@kernel
def _forward_rows(x, target, rows, sums):
    for i in prange(len(rows)):
        n = rows[i]
        a, b = x[n], target[n]
        sums[i, 0], sums[i, 1], sums[i, 2] = dot(a, b), dot(a, a) + EPS, dot(b, b) + EPS


@helper
def dot(a, b):
    """Σ a·b over a row."""
    total = 0.0
    for start in range(0, len(a), BLOCK):
        x, y, part = a[start : start + BLOCK], b[start : start + BLOCK], np.float32(0)
        for j in range(len(x)):
            part += x[j] * y[j]
        total += part
    return total


def backward_cpu(dy, cache):
    x, target, rows, sums = cache
    dx = zeros(x.shape, x.dtype)
    _backward_rows(-dy / len(rows), x, target, rows, sums, dx)
    return (dx,)


@kernel
def _backward_rows(weight, x, target, rows, sums, dx):
    for i in prange(len(rows)):
        n, ab, A, B = rows[i], sums[i, 0], sums[i, 1], sums[i, 2]
        norm = np.sqrt(A * B)
        toward, along = np.float32(weight / norm), np.float32(weight * ab / (norm * A))
        a, b, da = x[n], target[n], dx[n]
        for c in range(len(a)):
            da[c] = toward * b[c] - along * a[c]


# ------------------------------------------------------- CUDA: a block for each selected row


def forward_cuda(x, *, target, mask=None):
    places = to_device(selected(mask, len(x)))
    sums, rows = device_empty((len(places), 3)), device_empty(len(places))
    _forward_kernel[len(places), TEAM](x, target, places, np.float32(EPS), sums, rows)
    return total(rows, 1 / len(places)), (x, target, places, sums)


@cuda_kernel
def _forward_kernel(x, target, places, eps, sums, rows):
    i, n = cuda.blockIdx.x, places[cuda.blockIdx.x]
    ab, aa, bb = float32(0), float32(0), float32(0)
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        a, b = x[n, c], target[n, c]
        ab, aa, bb = ab + a * b, aa + a * a, bb + b * b
    ab, aa, bb = block_sum(ab), block_sum(aa) + eps, block_sum(bb) + eps
    if cuda.threadIdx.x == 0:
        sums[i, 0], sums[i, 1], sums[i, 2] = ab, aa, bb
        rows[i] = float32(1) - ab / float32(math.sqrt(aa * bb))


def backward_cuda(dy, cache):
    x, target, places, sums = cache
    dx = device_zeros(x.shape)
    weight = np.float32(-dy / len(places))
    _backward_kernel[len(places), TEAM](weight, x, target, places, sums, dx)
    return (dx,)


@cuda_kernel
def _backward_kernel(weight, x, target, places, sums, dx):
    i, n = cuda.blockIdx.x, places[cuda.blockIdx.x]
    norm = float32(math.sqrt(sums[i, 1] * sums[i, 2]))
    toward, along = weight / norm, weight * sums[i, 0] / (norm * sums[i, 1])
    for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
        dx[n, c] = toward * target[n, c] - along * x[n, c]
