"""Cross entropy: the mean negative log-likelihood over the rows whose label is not ignore_index.

With M those rows, and lse(z) = ln Σ eᶻ:

    y = 1/|M| Σ_{n∈M} lse(z[n]) − z[n, label[n]]

    ∂z[n] = ∂y/|M|·(softmax(z[n]) − onehot(label[n]))   for n ∈ M, else 0

Where M is empty the mean does not exist: ValueError.
Source: PyTorch's `CrossEntropyLoss(ignore_index=-100)`.
"""

import math

import numpy as np

from minidistil.ops.runtime.cpu import helper, kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    cuda,
    cuda_kernel,
    device_empty,
    float32,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import empty, zeros
from minidistil.ops.softmax import add_softmax, log_softmax, max_and_sum, max_and_sum_cuda

# ------------------------------------------------------- NumPy: the specification


def forward(logits, *, labels, ignore_index=-100):
    """logits (N,V), labels (N,) integers  ->  y (), cache."""
    kept = labelled_rows(labels, ignore_index)
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


def labelled_rows(labels, ignore_index):
    """The rows whose label is not ignore_index, (M,). Raises ValueError where there is none."""
    kept = np.flatnonzero(labels != ignore_index)  # (M,)
    if len(kept) == 0:
        raise ValueError(f"cross entropy needs a label: all {len(labels)} are {ignore_index}")
    return kept


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(logits, *, labels, ignore_index=-100):
    kept = labelled_rows(labels, ignore_index)
    rows, sums = np.empty(len(kept)), empty((len(kept), 2))
    _forward_rows(logits, labels, kept, rows, sums)
    return np.float32(rows.mean()), (logits, labels, kept, sums)


@kernel
def _forward_rows(logits, labels, kept, rows, sums):
    for i in prange(len(kept)):
        z, label = logits[kept[i]], labels[kept[i]]
        top, total = max_and_sum(z)
        sums[i, 0], sums[i, 1] = top, total
        rows[i] = nll(z[label], top, total)


@helper
def nll(z, top, total):
    """−ln of the softmax at logit z; ln total and top − z are small, so nothing cancels."""
    return np.log(np.float64(total)) + (top - z)


def backward_cpu(dy, cache):
    logits, labels, kept, sums = cache
    dlogits = zeros(logits.shape)
    _backward_rows(np.float32(dy / len(kept)), logits, labels, kept, sums, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(weight, logits, labels, kept, sums, dlogits):
    for i in prange(len(kept)):
        n = kept[i]
        add_softmax(logits[n], sums[i, 0], weight / sums[i, 1], dlogits[n])
        dlogits[n, labels[n]] -= weight


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(logits, *, labels, ignore_index=-100):
    kept = labelled_rows(labels, ignore_index)
    rows, sums = device_empty(len(logits)), device_empty((len(logits), 2))
    labels = to_device(labels)
    _forward_kernel[len(logits), TEAM](logits, labels, ignore_index, rows, sums)
    return total(rows, 1 / len(kept)), (logits, labels, ignore_index, len(kept), sums)


@cuda_kernel
def _forward_kernel(logits, labels, ignore_index, rows, sums):
    n, first, label = cuda.blockIdx.x, cuda.threadIdx.x, labels[cuda.blockIdx.x]
    if label == ignore_index:
        if first == 0:
            rows[n] = float32(0)
        return
    top, total_exp = max_and_sum_cuda(logits, n)
    if first == 0:
        sums[n, 0], sums[n, 1] = top, total_exp
        rows[n] = float32(math.log(total_exp)) + (top - logits[n, label])


def backward_cuda(dy, cache):
    logits, labels, ignore_index, count, sums = cache
    dlogits = device_empty(logits.shape)
    _backward_kernel[len(logits), TEAM](
        np.float32(dy / count), logits, labels, ignore_index, sums, dlogits
    )
    return (dlogits,)


@cuda_kernel
def _backward_kernel(weight, logits, labels, ignore_index, sums, dlogits):
    n, label = cuda.blockIdx.x, labels[cuda.blockIdx.x]
    for v in range(cuda.threadIdx.x, logits.shape[1], cuda.blockDim.x):
        d = float32(0)
        if label != ignore_index:
            d = weight * float32(math.exp(logits[n, v] - sums[n, 0])) / sums[n, 1]
            if v == label:
                d -= weight
        dlogits[n, v] = d
