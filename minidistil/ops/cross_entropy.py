"""Cross entropy: the mean surprise at the labels, over the rows that have one.

With M the rows whose label is not `ignore_index`, and lse(z) = ln Σ eᶻ:

    y = 1/|M| Σ_{n∈M} lse(z[n]) − z[n, label[n]]

    ∂z[n] = ∂y/|M|·(softmax(z[n]) − onehot(label[n]))   for n ∈ M, else 0

Source: PyTorch's `CrossEntropyLoss(ignore_index=-100)`. Without any label the mean does not exist:
ValueError.
"""

import numpy as np

from minidistil.ops._cpu import exp, helper, kernel, prange
from minidistil.ops._memory import zeros

# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, labels, ignore_index=-100):
    """logits (N,V), labels (N,) integers  ->  y (), cache."""
    kept = _kept(labels, ignore_index)
    log_p = log_softmax(logits[kept])  # (M,V)
    picked = log_p[np.arange(len(kept)), labels[kept]]  # (M,)
    return -picked.mean(), (log_p, labels, kept, len(logits))


def backward(dy, cache):
    """dy (), cache  ->  dlogits (N,V)."""
    log_p, labels, kept, N = cache
    dlogits = np.zeros((N, log_p.shape[1]), log_p.dtype)
    d = np.exp(log_p)
    d[np.arange(len(kept)), labels[kept]] -= 1
    dlogits[kept] = d * (dy / len(kept))
    return (dlogits,)


def log_softmax(z):
    """z (N,V)  ->  z − lse(z) (N,V)."""
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _kept(labels, ignore_index):
    kept = np.flatnonzero(labels != ignore_index)  # (M,)
    if len(kept) == 0:
        raise ValueError(f"cross entropy needs a label: all {len(labels)} are {ignore_index}")
    return kept


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, labels, ignore_index=-100):
    kept = _kept(labels, ignore_index)
    rows, lse = np.empty(len(kept)), np.empty(len(kept), np.float32)
    _forward_rows(logits, labels, kept, rows, lse)
    return np.float32(rows.mean()), (logits, labels, kept, lse)


@kernel
def _forward_rows(logits, labels, kept, rows, lse):
    for i in prange(len(kept)):
        z = logits[kept[i]]
        lse[i] = log_sum_exp(z, np.float32(1))
        rows[i] = lse[i] - z[labels[kept[i]]]


@helper
def log_sum_exp(z, scale):
    """ln Σ e^(scale·z) over a row."""
    top = z[0]
    for v in range(len(z)):
        top = max(top, z[v])
    total = 0.0
    for v in range(len(z)):
        total += exp((z[v] - top) * scale)
    return top * scale + np.float32(np.log(total))


def backward_cpu(dy, cache):
    logits, labels, kept, lse = cache
    dlogits = zeros(logits.shape, logits.dtype)
    _backward_rows(np.float32(dy / len(kept)), logits, labels, kept, lse, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(weight, logits, labels, kept, lse, dlogits):
    for i in prange(len(kept)):
        n = kept[i]
        for v in range(logits.shape[1]):
            dlogits[n, v] = weight * exp(logits[n, v] - lse[i])
        dlogits[n, labels[n]] -= weight
