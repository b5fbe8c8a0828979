"""Cross entropy whose classes weigh differently, and whose labels are smoothed.

With M the rows whose label y is not `ignore_index`, w the classes' weights, ε the smoothing, K
classes and −ln p[k] = ln Σ eᶻ − z[k]:

    y = 1/D Σ_{n∈M} (1 − ε)·w[y]·(−ln p[y]) + ε/K·Σ_k w[k]·(−ln p[k])        D = Σ_{n∈M} w[y]

    ∂z[k] = ∂y/D·(W·p[k] − (1 − ε)·w[y]·onehot(y)[k] − ε/K·w[k])     W = (1 − ε)·w[y] + ε/K·Σ_k w[k]

A label is then 1 − ε sure, and ε is spread over all K classes, its own included.
Source: PyTorch's `CrossEntropyLoss(weight=…, label_smoothing=…)`; Szegedy et al., "Rethinking the
Inception architecture", 2016, §7. With w = 1 and ε = 0 it is `cross_entropy`.
"""

import math

import numpy as np

from minidistil.ops.cross_entropy import add_softmax, exp_sum, labelled_rows, log_softmax, surprise
from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    block_max,
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

# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, labels, class_weights=None, label_smoothing=0.0, ignore_index=-100):
    """logits (N,K), labels (N,) integers, class_weights (K,) or None (all 1)  ->  y (), cache.

    Raises ValueError without any label, for another number of weights, or for a smoothing
    outside [0, 1).
    """
    kept, w, D = _prepared(logits, labels, class_weights, label_smoothing, ignore_index)
    keep, share = 1 - label_smoothing, label_smoothing / len(w)
    y, log_p = labels[kept], log_softmax(logits[kept])  # (M,), (M,K)
    loss = -keep * (w[y] * log_p[np.arange(len(y)), y]).sum()
    if share:
        loss -= share * (log_p @ w).sum()
    return logits.dtype.type(loss / D), (log_p, y, kept, w, keep, share, D, len(logits))


def backward(dy, cache):
    """dy (), cache  ->  dlogits (N,K)."""
    log_p, y, kept, w, keep, share, D, N = cache
    d = (keep * w[y] + share * w.sum())[:, None] * np.exp(log_p) - share * w
    d[np.arange(len(y)), y] -= keep * w[y]
    dlogits = np.zeros((N, len(w)), log_p.dtype)
    dlogits[kept] = d * (dy / D)
    return (dlogits,)


def _prepared(logits, labels, class_weights, label_smoothing, ignore_index):
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


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, labels, class_weights=None, label_smoothing=0.0, ignore_index=-100):
    kept, w, D = _prepared(logits, labels, class_weights, label_smoothing, ignore_index)
    keep, share = np.float32(1 - label_smoothing), np.float32(label_smoothing / len(w))
    rows, tops, totals = np.empty(len(kept)), empty(len(kept)), empty(len(kept))
    _forward_rows(logits, labels, kept, w, keep, share, rows, tops, totals)
    return np.float32(rows.sum() / D), (logits, labels, kept, w, keep, share, D, tops, totals)


@kernel
def _forward_rows(logits, labels, kept, w, keep, share, rows, tops, totals):
    for i in prange(len(kept)):
        z, label, spread = logits[kept[i]], labels[kept[i]], 0.0
        tops[i], totals[i] = exp_sum(z, np.float32(1))
        if share != 0:
            for k in range(len(z)):
                spread += w[k] * surprise(z[k], tops[i], totals[i])
        rows[i] = keep * w[label] * surprise(z[label], tops[i], totals[i]) + share * spread


def backward_cpu(dy, cache):
    logits, labels, kept, w, keep, share, D, tops, totals = cache
    dlogits = zeros(logits.shape)
    everything = np.float32(share * w.sum(dtype=np.float64))
    _backward_rows(
        np.float32(dy / D), logits, labels, kept, w, keep, share, everything, tops, totals, dlogits
    )
    return (dlogits,)


@kernel
def _backward_rows(factor, logits, labels, kept, w, keep, share, everything, tops, totals, dlogits):
    for i in prange(len(kept)):
        n, label = kept[i], labels[kept[i]]
        dz, own = dlogits[n], keep * w[label]
        add_softmax(logits[n], tops[i], factor * (own + everything) / totals[i], dz)
        if share != 0:
            for k in range(len(dz)):
                dz[k] -= factor * share * w[k]
        dz[label] -= factor * own


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(logits, *, labels, class_weights=None, label_smoothing=0.0, ignore_index=-100):
    _, w, D = _prepared(logits, labels, class_weights, label_smoothing, ignore_index)
    keep, share = np.float32(1 - label_smoothing), np.float32(label_smoothing / len(w))
    everything = np.float32(share * w.sum(dtype=np.float64))
    rows, sums = device_empty(len(logits)), device_empty((len(logits), 2))
    places, w = to_device(labels), floats_to_device(w)
    _forward_kernel[len(logits), TEAM](logits, places, ignore_index, w, keep, share, rows, sums)
    cache = logits, places, ignore_index, w, keep, share, everything, D, sums
    return total(rows, 1 / D), cache


@cuda_kernel
def _forward_kernel(logits, labels, ignore_index, w, keep, share, rows, sums):
    n, first, step, K = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    label = labels[n]
    if label == ignore_index:
        if first == 0:
            rows[n] = float32(0)
        return
    top, part, spread = logits[n, 0], float32(0), float32(0)
    for k in range(first, K, step):
        top = max(top, logits[n, k])
    top = block_max(top)
    for k in range(first, K, step):
        part += float32(math.exp(logits[n, k] - top))
    part = block_sum(part)
    log_part = float32(math.log(part))
    if share != 0:
        for k in range(first, K, step):
            spread += w[k] * (log_part + (top - logits[n, k]))
        spread = block_sum(spread)
    if first == 0:
        sums[n, 0], sums[n, 1] = top, part
        rows[n] = keep * w[label] * (log_part + (top - logits[n, label])) + share * spread


def backward_cuda(dy, cache):
    logits, labels, ignore_index, w, keep, share, everything, D, sums = cache
    dlogits = device_empty(logits.shape)
    _backward_kernel[len(logits), TEAM](
        np.float32(dy / D), logits, labels, ignore_index, w, keep, share, everything, sums, dlogits
    )
    return (dlogits,)


@cuda_kernel
def _backward_kernel(
    factor, logits, labels, ignore_index, w, keep, share, everything, sums, dlogits
):
    n, label = cuda.blockIdx.x, labels[cuda.blockIdx.x]
    for k in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        d = float32(0)
        if label != ignore_index:
            own = keep * w[label]
            d = (own + everything) * float32(math.exp(logits[n, k] - sums[n, 0])) / sums[n, 1]
            d -= share * w[k]
            if k == label:
                d -= own
        dlogits[n, k] = factor * d
