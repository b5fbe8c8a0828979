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

import numpy as np

from minidistil.ops._cpu import exp, kernel, prange
from minidistil.ops._memory import zeros
from minidistil.ops.cross_entropy import log_softmax, log_sum_exp

REDUCTIONS = ("batchmean", "mean", "sum")

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
    kl, lse = np.empty(len(rows)), np.empty((len(rows), 2), np.float32)
    _forward_rows(logits, teacher, rows, np.float32(1 / tau), kl, lse)
    return np.float32(kl.sum() * weight), (logits, teacher, lse, rows, tau, weight)


@kernel
def _forward_rows(logits, teacher, rows, cool, kl, lse):
    for i in prange(len(rows)):
        z, zt = logits[rows[i]], teacher[rows[i]]
        lse[i, 0], lse[i, 1] = log_sum_exp(z, cool), log_sum_exp(zt, cool)
        total = 0.0
        for v in range(len(z)):
            log_t = zt[v] * cool - lse[i, 1]
            t = exp(log_t)
            total += t * (log_t - (z[v] * cool - lse[i, 0])) if zt[v] != -np.inf else 0.0
        kl[i] = total


def backward_cpu(dy, cache):
    logits, teacher, lse, rows, tau, weight = cache
    dlogits = zeros(logits.shape, logits.dtype)
    factor = np.float32(dy * weight / tau)
    _backward_rows(factor, logits, teacher, rows, np.float32(1 / tau), lse, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(factor, logits, teacher, rows, cool, lse, dlogits):
    for i in prange(len(rows)):
        n = rows[i]
        for v in range(logits.shape[1]):
            p = exp(logits[n, v] * cool - lse[i, 0])
            t = exp(teacher[n, v] * cool - lse[i, 1])
            dlogits[n, v] = factor * (p - t)
