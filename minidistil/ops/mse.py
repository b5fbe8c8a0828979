"""Squared error, between logits or hidden states or numbers.

    y = Σ (x − target)² / n          ∂x = ∂y·2(x − target)/n

over the selected rows; n is rows times channels ("mean", PyTorch's default), rows ("batchmean",
which Hugging Face's distiller uses on logits) or 1 ("sum").
"""

import numpy as np

from minidistil.ops._cpu import kernel, prange
from minidistil.ops._memory import zeros
from minidistil.ops.kl_div import REDUCTIONS, selected

# ------------------------------------------------------- NumPy: the specification


def forward(x, *, target, mask=None, reduction="mean"):
    """x (N,C), target (N,C), mask (N,) bool or None (all rows)  ->  y (), cache."""
    rows = selected(mask, len(x))
    n = _count(reduction, len(rows), x.shape[1])
    error = x[rows] - target[rows]  # (M,C)
    return (error * error).sum() / x.dtype.type(n), (error, rows, n, x.shape)


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C)."""
    error, rows, n, shape = cache
    dx = np.zeros(shape, error.dtype)
    dx[rows] = error * (2 * dy / n)
    return (dx,)


def _count(reduction, rows, channels):
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    return {"batchmean": rows, "mean": rows * channels, "sum": 1}[reduction]


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, *, target, mask=None, reduction="mean"):
    rows = selected(mask, len(x))
    n = _count(reduction, len(rows), x.shape[1])
    sums = np.empty(len(rows))
    _forward_rows(x, target, rows, sums)
    return np.float32(sums.sum() / n), (x, target, rows, n)


@kernel
def _forward_rows(x, target, rows, sums):
    for i in prange(len(rows)):
        total = 0.0
        for c in range(x.shape[1]):
            error = x[rows[i], c] - target[rows[i], c]
            total += error * error
        sums[i] = total


def backward_cpu(dy, cache):
    x, target, rows, n = cache
    dx = zeros(x.shape, x.dtype)
    _backward_rows(np.float32(2 * dy / n), x, target, rows, dx)
    return (dx,)


@kernel
def _backward_rows(weight, x, target, rows, dx):
    for i in prange(len(rows)):
        for c in range(x.shape[1]):
            dx[rows[i], c] = weight * (x[rows[i], c] - target[rows[i], c])
