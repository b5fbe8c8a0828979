"""Soft targets: how far the student's distribution is from the teacher's, both softened by tau.

For each selected row, with p = softmax(z/τ) of the student and t of the teacher:

    KL = Σ_v t·(ln t − ln p)          y = s·Σ_rows KL / n

s is τ² (`scale=True`) or 1; n is the number of selected rows ("batchmean"), rows times classes
("mean"), or 1 ("sum"). Since ∂KL/∂z = (p − t)/τ,

    ∂z = ∂y·s/(n·τ)·(p − t)

Gradients of softened logits shrink as 1/τ²; τ² gives them back, so that alpha need not follow tau.
Where the teacher says 0 the term is 0, as 0·ln 0 is.
Source: Hinton et al., "Distilling the knowledge in a neural network", 2015, §2; numbers as Hugging
Face's distiller: `KLDivLoss(reduction="batchmean")` over tokens, times τ².
"""

import math

import numpy as np

from minidistil.ops.cross_entropy import BLOCK, largest, log_softmax
from minidistil.ops.runtime.cpu import exp, helper, kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_max,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    device_zeros,
    float32,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import empty, zeros

REDUCTIONS = ("batchmean", "mean", "sum")
RULED_OUT = np.float32(-np.inf)  # a logit: the word has no chance

# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    """logits (N,V), teacher (N,V), mask (N,) bool or None (all rows)  ->  y (), cache."""
    rows = selected(mask, len(logits))
    weight = _weight(tau, reduction, scale, len(rows), logits.shape[1])
    log_p, log_t = log_softmax(logits[rows] / tau), log_softmax(teacher[rows] / tau)  # (M,V)
    t = np.exp(log_t)
    ratio = np.subtract(log_t, log_p, out=np.zeros_like(t), where=t != 0)  # NaN is not 0
    kl = (t * ratio).sum()
    return logits.dtype.type(kl * weight), (np.exp(log_p), t, rows, tau, weight, len(logits))


def backward(dy, cache):
    """dy (), cache  ->  dlogits (N,V)."""
    p, t, rows, tau, weight, N = cache
    dlogits = np.zeros((N, p.shape[1]), p.dtype)
    dlogits[rows] = (p - t) * (dy * weight / tau)
    return (dlogits,)


def selected(mask, N):
    """The row numbers that `mask` (N,) picks, all of them when it is None; (M,), never empty."""
    rows = np.arange(N) if mask is None else np.flatnonzero(mask)
    if len(rows) == 0:
        raise ValueError(f"the loss needs at least one selected row, the mask picks 0 of {N}")
    return rows


def _weight(tau, reduction, scale, rows, classes):
    if not tau > 0:
        raise ValueError(f"temperature must be above 0, not {tau}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    n = {"batchmean": rows, "mean": rows * classes, "sum": 1}[reduction]
    return (tau**2 if scale else 1.0) / n


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    rows = selected(mask, len(logits))
    weight = _weight(tau, reduction, scale, len(rows), logits.shape[1])
    kl, sums = np.empty(len(rows)), empty((len(rows), 4))
    _forward_rows(logits, teacher, rows, np.float32(1 / tau), kl, sums)
    return np.float32(kl.sum() * weight), (logits, teacher, sums, rows, tau, weight)


@kernel
def _forward_rows(logits, teacher, rows, cool, kl, sums):
    for i in prange(len(rows)):
        kl[i] = divergence(logits[rows[i]], teacher[rows[i]], cool, sums[i])


@helper
def divergence(z, zt, cool, sums):
    """KL of one row; `sums` (4,) receives top and Σ of the student, then of the teacher.

    ln t − ln p is the difference of the logits below their tops, less that of the two ln Σ, which
    is the same for every word and so waits until the sum is done.
    """
    top, top_t = largest(z), largest(zt)
    total = total_t = gap = 0.0
    for start in range(0, len(z), BLOCK):
        s, t = z[start : start + BLOCK], zt[start : start + BLOCK]
        part = part_t = part_gap = np.float32(0)
        for j in range(len(s)):
            below, below_t = (s[j] - top) * cool, (t[j] - top_t) * cool
            believed = exp(below_t)
            part += exp(below)
            part_t += believed
            part_gap += believed * (below_t - below) if t[j] != RULED_OUT else np.float32(0)
        total, total_t, gap = total + part, total_t + part_t, gap + part_gap
    sums[0], sums[1], sums[2], sums[3] = top, total, top_t, total_t
    return gap / total_t - np.log(total_t / total)


def backward_cpu(dy, cache):
    logits, teacher, sums, rows, tau, weight = cache
    dlogits = zeros(logits.shape)
    factor = np.float32(dy * weight / tau)
    _backward_rows(factor, logits, teacher, rows, np.float32(1 / tau), sums, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(factor, logits, teacher, rows, cool, sums, dlogits):
    for i in prange(len(rows)):
        z, zt, dz = logits[rows[i]], teacher[rows[i]], dlogits[rows[i]]
        add_difference(z, zt, cool, sums[i], factor, dz)


@helper
def add_difference(z, zt, cool, sums, factor, dz):
    """dz += factor·(p − t) over a row or a part of it, `sums` as `divergence` left them."""
    top, share, top_t, share_t = sums[0], factor / sums[1], sums[2], factor / sums[3]
    for v in range(len(z)):
        dz[v] += share * exp((z[v] - top) * cool) - share_t * exp((zt[v] - top_t) * cool)


# ------------------------------------------------------- CUDA: a block for each selected row


def forward_cuda(logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    rows = selected(mask, len(logits))
    weight = _weight(tau, reduction, scale, len(rows), logits.shape[1])
    kl, sums, places = device_empty(len(rows)), device_empty((len(rows), 4)), to_device(rows)
    _forward_kernel[len(rows), TEAM](logits, teacher, places, np.float32(1 / tau), kl, sums)
    return total(kl, weight), (logits, teacher, sums, places, tau, weight)


@cuda_kernel
def _forward_kernel(logits, teacher, rows, cool, kl, sums):
    i, first, step, V = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    n = rows[i]
    top, top_t = logits[n, 0], teacher[n, 0]
    for v in range(first, V, step):
        top, top_t = max(top, logits[n, v]), max(top_t, teacher[n, v])
    top, top_t = block_max(top), block_max(top_t)
    part, part_t, gap = float32(0), float32(0), float32(0)
    for v in range(first, V, step):
        below, below_t = (logits[n, v] - top) * cool, (teacher[n, v] - top_t) * cool
        believed = float32(math.exp(below_t))
        part += float32(math.exp(below))
        part_t += believed
        if teacher[n, v] != RULED_OUT:
            gap += believed * (below_t - below)
    part, part_t, gap = block_sum(part), block_sum(part_t), block_sum(gap)
    if first == 0:
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3] = top, part, top_t, part_t
        kl[i] = gap / part_t - float32(math.log(part_t / part))


def backward_cuda(dy, cache):
    logits, teacher, sums, rows, tau, weight = cache
    dlogits = device_zeros(logits.shape)
    factor, cool = np.float32(dy * weight / tau), np.float32(1 / tau)
    _backward_kernel[len(rows), TEAM](factor, logits, teacher, rows, cool, sums, dlogits)
    return (dlogits,)


@cuda_kernel
def _backward_kernel(factor, logits, teacher, rows, cool, sums, dlogits):
    i, n = cuda.blockIdx.x, rows[cuda.blockIdx.x]
    for v in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        p = float32(math.exp((logits[n, v] - sums[i, 0]) * cool)) / sums[i, 1]
        t = float32(math.exp((teacher[n, v] - sums[i, 2]) * cool)) / sums[i, 3]
        dlogits[n, v] = factor * (p - t)
