"""Cross entropy: the mean surprise at the labels, over the rows that have one.

With M the rows whose label is not `ignore_index`, and lse(z) = ln Σ eᶻ:

    y = 1/|M| Σ_{n∈M} lse(z[n]) − z[n, label[n]]

    ∂z[n] = ∂y/|M|·(softmax(z[n]) − onehot(label[n]))   for n ∈ M, else 0

Source: PyTorch's `CrossEntropyLoss(ignore_index=-100)`. Without any label the mean does not exist:
ValueError.
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
    float32,
    to_device,
    total,
)
from minidistil.ops.runtime.workspace import empty, zeros

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


def log_softmax(z):
    """z (N,V)  ->  z − lse(z) (N,V)."""
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def labelled_rows(labels, ignore_index):
    """The rows whose label is not ignore_index (M,). Raises ValueError where there is none."""
    kept = np.flatnonzero(labels != ignore_index)  # (M,)
    if len(kept) == 0:
        raise ValueError(f"cross entropy needs a label: all {len(labels)} are {ignore_index}")
    return kept


# ------------------------------------------------------- Numba: rows across cores

BLOCK = 256  # terms that are summed in float32, in vector lanes, before float64 takes over


def forward_cpu(logits, *, labels, ignore_index=-100):
    kept = labelled_rows(labels, ignore_index)
    rows, tops, totals = np.empty(len(kept)), empty(len(kept)), empty(len(kept))
    _forward_rows(logits, labels, kept, rows, tops, totals)
    return np.float32(rows.mean()), (logits, labels, kept, tops, totals)


@kernel
def _forward_rows(logits, labels, kept, rows, tops, totals):
    for i in prange(len(kept)):
        z = logits[kept[i]]
        tops[i], totals[i] = exp_sum(z, np.float32(1))
        rows[i] = surprise(z[labels[kept[i]]], tops[i], totals[i])


@helper
def exp_sum(z, scale):
    """The largest of a row, top, and Σ e^(scale·(z − top)): what softmax and lse are made of."""
    top, total = largest(z), 0.0
    for start in range(0, len(z), BLOCK):
        block, part = z[start : start + BLOCK], np.float32(0)
        for j in range(len(block)):
            part += exp((block[j] - top) * scale)
        total += part
    return top, np.float32(total)


@helper
def largest(z):
    """The largest of a row."""
    top = z[0]
    for v in range(len(z)):
        top = max(top, z[v])
    return top


@helper
def surprise(z, top, total):
    """−ln of the softmax of one logit; ln and the difference are small, so nothing cancels."""
    return np.log(np.float64(total)) + (top - z)


@helper
def add_softmax(z, top, share, dz):
    """dz += share·e^(z − top) over a row or a part of it."""
    for v in range(len(z)):
        dz[v] += share * exp(z[v] - top)


def backward_cpu(dy, cache):
    logits, labels, kept, tops, totals = cache
    dlogits = zeros(logits.shape)
    _backward_rows(np.float32(dy / len(kept)), logits, labels, kept, tops, totals, dlogits)
    return (dlogits,)


@kernel
def _backward_rows(weight, logits, labels, kept, tops, totals, dlogits):
    for i in prange(len(kept)):
        n = kept[i]
        add_softmax(logits[n], tops[i], weight / totals[i], dlogits[n])
        dlogits[n, labels[n]] -= weight


# ------------------------------------------------------- CUDA: a block for each row


def forward_cuda(logits, *, labels, ignore_index=-100):
    kept = labelled_rows(labels, ignore_index)
    rows, sums = device_empty(len(logits)), device_empty((len(logits), 2))
    places = to_device(labels)
    _forward_kernel[len(logits), TEAM](logits, places, ignore_index, rows, sums)
    return total(rows, 1 / len(kept)), (logits, places, ignore_index, len(kept), sums)


@cuda_kernel
def _forward_kernel(logits, labels, ignore_index, rows, sums):
    n, first, step, V = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    label = labels[n]
    if label == ignore_index:
        if first == 0:
            rows[n] = float32(0)
        return
    top, part = logits[n, 0], float32(0)
    for v in range(first, V, step):
        top = max(top, logits[n, v])
    top = block_max(top)
    for v in range(first, V, step):
        part += float32(math.exp(logits[n, v] - top))
    part = block_sum(part)
    if first == 0:
        sums[n, 0], sums[n, 1] = top, part
        rows[n] = float32(math.log(part)) + (top - logits[n, label])


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
