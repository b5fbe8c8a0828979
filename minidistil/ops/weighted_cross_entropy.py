"""Cross entropy with class weights and label smoothing.

With M the rows whose label y is not `ignore_index`, w the classes' weights, ε the smoothing, K
classes and −ln p[k] = ln Σ eᶻ − z[k]:

    y = 1/D Σ_{n∈M} (1 − ε)·w[y]·(−ln p[y]) + ε/K·Σ_k w[k]·(−ln p[k])        D = Σ_{n∈M} w[y]

    ∂z[k] = ∂y/D·(W·p[k] − (1 − ε)·w[y]·onehot(y)[k] − ε/K·w[k])     W = (1 − ε)·w[y] + ε/K·Σ_k w[k]

A label thus has probability 1 − ε, and ε is spread evenly over all K classes, its own included.
Source: PyTorch's `CrossEntropyLoss(weight=…, label_smoothing=…)`; Szegedy et al., "Rethinking the
Inception architecture", 2016, §7. With w = 1 and ε = 0 it is `cross_entropy`.
"""

import math
from typing import NamedTuple

import numpy as np

from minidistil.ops.cross_entropy import labelled_rows, nll
from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_sum,
    cuda,
    cuda_kernel,
    device_empty,
    float32,
    floats_to_device,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import empty, zeros
from minidistil.ops.softmax import add_softmax, log_softmax, max_and_sum, max_and_sum_cuda


class Smoothing(NamedTuple):
    """The label's share of the loss, and what smoothing moves from it to all classes."""

    hard: float  # 1 − ε
    soft: float  # ε/K
    soft_sum: float  # ε/K·Σ_k w[k]


# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, labels, class_weights=None, label_smoothing=0.0, ignore_index=-100):
    """logits (N,K), labels (N,) integers, class_weights (K,) or None (all 1)  ->  y (), cache.

    Raises ValueError without any label, for another number of weights, or for a smoothing
    outside [0, 1).
    """
    kept, w, D = _checked(logits, labels, class_weights, label_smoothing, ignore_index)
    hard, soft = 1 - label_smoothing, label_smoothing / len(w)
    y, log_p = labels[kept], log_softmax(logits[kept])  # (M,), (M,K)
    loss = -hard * (w[y] * log_p[np.arange(len(y)), y]).sum()
    if soft:
        loss -= soft * (log_p @ w).sum()
    return logits.dtype.type(loss / D), (log_p, y, kept, w, hard, soft, D, len(logits))


def backward(dy, cache):
    """dy (), cache  ->  dlogits (N,K)."""
    log_p, y, kept, w, hard, soft, D, N = cache
    d = (hard * w[y] + soft * w.sum())[:, None] * np.exp(log_p) - soft * w
    d[np.arange(len(y)), y] -= hard * w[y]
    dlogits = np.zeros((N, len(w)), log_p.dtype)
    dlogits[kept] = d * (dy / D)
    return (dlogits,)


def _checked(logits, labels, class_weights, label_smoothing, ignore_index):
    """The labelled rows (M,), the weights (K,) in the logits' dtype, and D."""
    K = logits.shape[1]
    w = np.ones(K) if class_weights is None else np.asarray(class_weights, np.float64)
    if w.shape != (K,):
        raise ValueError(f"class_weights must be {K} numbers, one a class, not of shape {w.shape}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be from 0 to below 1, not {label_smoothing}")
    kept = labelled_rows(labels, ignore_index)
    D = float(w[labels[kept]].sum())
    if D == 0:
        raise ValueError(
            f"the classes of all {len(kept)} labels weigh 0: the mean does not exist; give one of "
            f"them a class weight above 0"
        )
    return kept, w.astype(np.float64 if logits.dtype == np.float64 else np.float32), D


def _smoothing(w, label_smoothing):
    """Smoothing in float32, for the kernels."""
    soft = np.float32(label_smoothing / len(w))
    return Smoothing(
        np.float32(1 - label_smoothing), soft, np.float32(soft * w.sum(dtype=np.float64))
    )


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, labels, class_weights=None, label_smoothing=0.0, ignore_index=-100):
    kept, w, D = _checked(logits, labels, class_weights, label_smoothing, ignore_index)
    smoothing = _smoothing(w, label_smoothing)
    rows, sums = np.empty(len(kept)), empty((len(kept), 2))
    _forward_rows(logits, labels, kept, w, smoothing, rows, sums)
    return np.float32(rows.sum() / D), (logits, labels, kept, w, smoothing, D, sums)


@kernel
def _forward_rows(logits, labels, kept, w, smoothing, rows, sums):
    hard, soft, _ = smoothing
    for i in prange(len(kept)):
        z, label, spread = logits[kept[i]], labels[kept[i]], 0.0
        top, total = max_and_sum(z)
        sums[i, 0], sums[i, 1] = top, total
        if soft != 0:
            for k in range(len(z)):
                spread += w[k] * nll(z[k], top, total)
        rows[i] = hard * w[label] * nll(z[label], top, total) + soft * spread


def backward_cpu(dy, cache):
    logits, labels, kept, w, smoothing, D, sums = cache
    dlogits = zeros(logits.shape)
    _backward_rows(np.float32(dy / D), logits, labels, kept, w, smoothing, sums, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(factor, logits, labels, kept, w, smoothing, sums, dlogits):
    hard, soft, soft_sum = smoothing
    for i in prange(len(kept)):
        n, label = kept[i], labels[kept[i]]
        dz, own = dlogits[n], hard * w[label]
        add_softmax(logits[n], sums[i, 0], factor * (own + soft_sum) / sums[i, 1], dz)
        if soft != 0:
            for k in range(len(dz)):
                dz[k] -= factor * soft * w[k]
        dz[label] -= factor * own


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(logits, *, labels, class_weights=None, label_smoothing=0.0, ignore_index=-100):
    _, w, D = _checked(logits, labels, class_weights, label_smoothing, ignore_index)
    smoothing = _smoothing(w, label_smoothing)
    rows, sums = device_empty(len(logits)), device_empty((len(logits), 2))
    labels, w = to_device(labels), floats_to_device(w)
    _forward_kernel[len(logits), TEAM](logits, labels, ignore_index, w, smoothing, rows, sums)
    return total(rows, 1 / D), (logits, labels, ignore_index, w, smoothing, D, sums)


@cuda_kernel
def _forward_kernel(logits, labels, ignore_index, w, smoothing, rows, sums):
    n, first, step, K = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    label = labels[n]
    if label == ignore_index:
        if first == 0:
            rows[n] = float32(0)
        return
    top, total_exp = max_and_sum_cuda(logits, n)
    log_total, spread = float32(math.log(total_exp)), float32(0)
    if smoothing.soft != 0:
        for k in range(first, K, step):
            spread += w[k] * (log_total + (top - logits[n, k]))
        spread = block_sum(spread)
    if first == 0:
        sums[n, 0], sums[n, 1] = top, total_exp
        own = smoothing.hard * w[label] * (log_total + (top - logits[n, label]))
        rows[n] = own + smoothing.soft * spread


def backward_cuda(dy, cache):
    logits, labels, ignore_index, w, smoothing, D, sums = cache
    dlogits, factor = device_empty(logits.shape), np.float32(dy / D)
    _backward_kernel[len(logits), TEAM](
        factor, logits, labels, ignore_index, w, smoothing, sums, dlogits
    )
    return (dlogits,)


@cuda_kernel
def _backward_kernel(factor, logits, labels, ignore_index, w, smoothing, sums, dlogits):
    n, label = cuda.blockIdx.x, labels[cuda.blockIdx.x]
    for k in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        d = float32(0)
        if label != ignore_index:
            own = smoothing.hard * w[label]
            d = own + smoothing.soft_sum
            d = d * float32(math.exp(logits[n, k] - sums[n, 0])) / sums[n, 1]
            d -= smoothing.soft * w[k]
            if k == label:
                d -= own
        dlogits[n, k] = factor * d
