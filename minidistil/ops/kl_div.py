"""Soft targets: the KL divergence between teacher and student, both softened by tau.

For each selected row, with z_s and z_t the logits, p_s = softmax(z_s/τ) and p_t = softmax(z_t/τ) of
student and teacher:

    KL = Σ_v p_t·(ln p_t − ln p_s)          y = s·Σ_rows KL / n

s is τ² (`scale=True`) or 1; n is the number of selected rows ("batchmean"), rows times classes
("mean"), or 1 ("sum"). Since ∂KL/∂z_s = (p_s − p_t)/τ,

    ∂z_s = ∂y·s/(n·τ)·(p_s − p_t)

Gradients of softened logits shrink as 1/τ²; the factor τ² restores them, so that alpha need not
follow tau. A class whose p_t is 0 adds 0, the limit of p·ln p.
Source: Hinton et al., "Distilling the knowledge in a neural network", 2015, §2; numbers as Hugging
Face's distiller: `KLDivLoss(reduction="batchmean")` over tokens, times τ².
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
    device_zeros,
    float32,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import empty, zeros
from minidistil.ops.softmax import BLOCK, log_softmax, row_max

REDUCTIONS = ("batchmean", "mean", "sum")
MINUS_INFINITY = np.float32(-np.inf)  # a logit whose probability is exactly 0

# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    """logits (N,V), teacher (N,V) logits, mask (N,) bool or None (all rows)  ->  y (), cache.

    Raises ValueError for a tau that is not above 0, an unknown reduction, or a mask that selects no
    row.
    """
    rows = selected(mask, len(logits))
    weight = _weight(tau, reduction, scale, len(rows), logits.shape[1])
    log_p_s, log_p_t = log_softmax(logits[rows] / tau), log_softmax(teacher[rows] / tau)  # (M,V)
    p_t = np.exp(log_p_t)
    nonzero = p_t != 0  # as NaN is
    log_ratio = np.subtract(log_p_t, log_p_s, out=np.zeros_like(p_t), where=nonzero)
    kl = (p_t * log_ratio).sum()
    return logits.dtype.type(kl * weight), (np.exp(log_p_s), p_t, rows, tau, weight, len(logits))


def backward(dy, cache):
    """dy (), cache  ->  dlogits (N,V)."""
    p_s, p_t, rows, tau, weight, N = cache
    dlogits = np.zeros((N, p_s.shape[1]), p_s.dtype)
    dlogits[rows] = (p_s - p_t) * (dy * weight / tau)
    return (dlogits,)


def selected(mask, N):
    """The row numbers that `mask` (N,) selects, all of them where it is None; (M,), never empty."""
    rows = np.arange(N) if mask is None else np.flatnonzero(mask)
    if len(rows) == 0:
        raise ValueError(f"the loss needs at least one selected row, the mask picks 0 of {N}")
    return rows


def divisor(reduction, rows, columns):
    """What a sum over rows times columns terms is divided by."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    return {"batchmean": rows, "mean": rows * columns, "sum": 1}[reduction]


def _weight(tau, reduction, scale, rows, classes):
    if not tau > 0:
        raise ValueError(f"temperature must be above 0, not {tau}")
    return (tau**2 if scale else 1.0) / divisor(reduction, rows, classes)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    rows = selected(mask, len(logits))
    weight = _weight(tau, reduction, scale, len(rows), logits.shape[1])
    kl, sums = np.empty(len(rows)), empty((len(rows), 4))
    _forward_rows(logits, teacher, rows, np.float32(1 / tau), kl, sums)
    return np.float32(kl.sum() * weight), (logits, teacher, sums, rows, tau, weight)


@kernel
def _forward_rows(logits, teacher, rows, inv_tau, kl, sums):
    for i in prange(len(rows)):
        kl[i] = divergence(logits[rows[i]], teacher[rows[i]], inv_tau, sums[i])


@helper
def divergence(z_s, z_t, inv_tau, sums):
    """KL of one row; `sums` (4,) receives max and Σ of the student, then of the teacher.

    ln p_t − ln p_s is the difference of the logits below their maxima, less that of the two ln Σ,
    which is the same for every class and is therefore subtracted once, from the sum.
    """
    top_s, top_t = row_max(z_s), row_max(z_t)
    total_s = total_t = gap = 0.0
    for start in range(0, len(z_s), BLOCK):
        s, t = z_s[start : start + BLOCK], z_t[start : start + BLOCK]
        part_s = part_t = part_gap = np.float32(0)
        for j in range(len(s)):
            below_s, below_t = (s[j] - top_s) * inv_tau, (t[j] - top_t) * inv_tau
            e_t = exp(below_t)
            part_s += exp(below_s)
            part_t += e_t
            part_gap += e_t * (below_t - below_s) if t[j] != MINUS_INFINITY else np.float32(0)
        total_s, total_t, gap = total_s + part_s, total_t + part_t, gap + part_gap
    sums[0], sums[1], sums[2], sums[3] = top_s, total_s, top_t, total_t
    return gap / total_t - np.log(total_t / total_s)


def backward_cpu(dy, cache):
    logits, teacher, sums, rows, tau, weight = cache
    dlogits = zeros(logits.shape)
    factor = np.float32(dy * weight / tau)
    _backward_rows(factor, logits, teacher, rows, np.float32(1 / tau), sums, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(factor, logits, teacher, rows, inv_tau, sums, dlogits):
    for i in prange(len(rows)):
        z_s, z_t, dz = logits[rows[i]], teacher[rows[i]], dlogits[rows[i]]
        add_difference(z_s, z_t, inv_tau, sums[i], factor, dz)


@helper
def add_difference(z_s, z_t, inv_tau, sums, factor, dz):
    """dz += factor·(p_s − p_t) over a row or a part of it; `sums` (4,) as `divergence` fills it."""
    top_s, share_s, top_t, share_t = sums[0], factor / sums[1], sums[2], factor / sums[3]
    for v in range(len(z_s)):
        e_s, e_t = exp((z_s[v] - top_s) * inv_tau), exp((z_t[v] - top_t) * inv_tau)
        dz[v] += share_s * e_s - share_t * e_t


# ------------------------------------------------------- CUDA: a block for each selected row


def forward_cuda(logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    rows = selected(mask, len(logits))
    weight = _weight(tau, reduction, scale, len(rows), logits.shape[1])
    kl, sums, places = device_empty(len(rows)), device_empty((len(rows), 4)), to_device(rows)
    _forward_kernel[len(rows), TEAM](logits, teacher, places, np.float32(1 / tau), kl, sums)
    return total(kl, weight), (logits, teacher, sums, places, tau, weight)


@cuda_kernel
def _forward_kernel(logits, teacher, rows, inv_tau, kl, sums):
    i, first, step, V = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    n = rows[i]
    top_s, top_t = logits[n, 0], teacher[n, 0]
    for v in range(first, V, step):
        top_s, top_t = max(top_s, logits[n, v]), max(top_t, teacher[n, v])
    top_s, top_t = block_max(top_s), block_max(top_t)
    total_s, total_t, gap = float32(0), float32(0), float32(0)
    for v in range(first, V, step):
        below_s, below_t = (logits[n, v] - top_s) * inv_tau, (teacher[n, v] - top_t) * inv_tau
        e_t = float32(math.exp(below_t))
        total_s += float32(math.exp(below_s))
        total_t += e_t
        if teacher[n, v] != MINUS_INFINITY:
            gap += e_t * (below_t - below_s)
    total_s, total_t, gap = block_sum(total_s), block_sum(total_t), block_sum(gap)
    if first == 0:
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3] = top_s, total_s, top_t, total_t
        kl[i] = gap / total_t - float32(math.log(total_t / total_s))


def backward_cuda(dy, cache):
    logits, teacher, sums, rows, tau, weight = cache
    dlogits = device_zeros(logits.shape)
    factor, inv_tau = np.float32(dy * weight / tau), np.float32(1 / tau)
    _backward_kernel[len(rows), TEAM](factor, logits, teacher, rows, inv_tau, sums, dlogits)
    return (dlogits,)


@cuda_kernel
def _backward_kernel(factor, logits, teacher, rows, inv_tau, sums, dlogits):
    i, n = cuda.blockIdx.x, rows[cuda.blockIdx.x]
    for v in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        p_s = float32(math.exp((logits[n, v] - sums[i, 0]) * inv_tau)) / sums[i, 1]
        p_t = float32(math.exp((teacher[n, v] - sums[i, 2]) * inv_tau)) / sums[i, 3]
        dlogits[n, v] = factor * (p_s - p_t)
