"""The vocabulary head with its losses: logits live for a few rows at a time, never all of them.

With z = x·Wᵀ + b and the teacher's logits t, both (N,V), and M the rows that have a label:

    y = α_ce·ce + α_mlm·mlm + α_mse·mse

    ce  = τ²·mean_N KL(softmax(t/τ) ‖ softmax(z/τ))      mse = Σ (z − t)² / N
    mlm = mean_M lse(z) − z[label]

Once a row of z is there, so is its part of the gradient:

    ∂z = α_ce·τ/N·(softmax(z/τ) − softmax(t/τ)) + 2·α_mse/N·(z − t)
         + α_mlm/|M|·(softmax(z) − onehot(label))  where n ∈ M

    ∂x = ∂z·W          ∂W = ∂zᵀ·x          ∂b = Σ_n ∂z[n]

So forward goes through the rows in chunks, turns each chunk of z into ∂z in place and adds up the
three products; backward only scales them. For DistilBERT's 30,522 words and a thousand tokens, z
and t alone would be 250 MB.
Sources: those of `cross_entropy`, `kl_div` and `mse`, whose composition this is.
"""

import math
from typing import NamedTuple

import numpy as np

from minidistil.ops import cross_entropy, global_norm, kl_div, linear, mse
from minidistil.ops.cross_entropy import BLOCK, add_softmax, exp_sum, surprise
from minidistil.ops.kernels import matmul_cuda
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.kl_div import add_difference, divergence
from minidistil.ops.mse import add_error, squared_distance
from minidistil.ops.runtime.cpu import kernel, prange
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
)
from minidistil.ops.runtime.workspace import empty, zeros

IGNORED = -100
ROWS = 256  # of a chunk: enough for the products to run at full speed, 31 MB of BERT's logits
WORDS = 24 * 256  # of ∂z·W at a time: the product packs its right factor, here 19 MB and not all W


class VocabularyCache(NamedTuple):
    """The losses before weighting, and the gradient of their weighted sum."""

    parts: dict  # of "ce", "mlm" and "mse", those whose alpha is not 0
    dx: np.ndarray  # (N,C)
    dweight: np.ndarray  # (V,C)
    dbias: np.ndarray  # (V,)


# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0, alpha_mlm=0.0,
            alpha_mse=0.0):  # fmt: skip
    """x (N,C), weight (V,C), bias (V,)  ->  y (), cache with `parts`.

    labels: (N,) integers, −100 where there is none. teacher: a function from a slice of the rows
    to their logits (·,V). A loss whose alpha is 0 is not computed. Raises ValueError where a loss
    lacks its labels or its teacher.
    """
    _check(len(x), labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    z, head = linear.forward(x, weight, bias)
    t = teacher(slice(0, len(x))).astype(x.dtype) if alpha_ce or alpha_mse else None
    losses = {
        "ce": (alpha_ce, kl_div, {"teacher": t, "tau": tau}),
        "mlm": (alpha_mlm, cross_entropy, {"labels": labels}),
        "mse": (alpha_mse, mse, {"target": t, "reduction": "batchmean"}),
    }
    parts, dz = {}, np.zeros_like(z)
    for name, (alpha, op, fixed) in losses.items():
        if alpha:
            parts[name], cache = op.forward(z, **fixed)
            dz += op.backward(x.dtype.type(alpha), cache)[0]
    y = sum(losses[name][0] * part for name, part in parts.items())
    return x.dtype.type(y), VocabularyCache(parts, *linear.backward(dz, head))


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C), dweight (V,C), dbias (V,)."""
    return tuple(gradient * dy for gradient in cache[1:])


def _check(N, labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse):
    if not (alpha_ce or alpha_mlm or alpha_mse):
        raise ValueError("every alpha is 0: there is nothing to learn from")
    if (alpha_ce or alpha_mse) and teacher is None:
        raise ValueError(f"alpha_ce {alpha_ce} and alpha_mse {alpha_mse} need a teacher; give one")
    if not tau > 0:
        raise ValueError(f"temperature must be above 0, not {tau}")
    if alpha_mlm and (labels is None or (labels == IGNORED).all()):
        raise ValueError(f"alpha_mlm {alpha_mlm} needs a label, none of {N} rows has one")


# ------------------------------------------------------- Numba: chunks of rows


def forward_cpu(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0,
                alpha_mlm=0.0, alpha_mse=0.0):  # fmt: skip
    _check(len(x), labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    N, V = len(x), len(weight)
    labels = np.full(N, IGNORED) if labels is None or not alpha_mlm else labels
    M = max(1, np.count_nonzero(labels != IGNORED))
    factors = [np.float32(a) for a in (alpha_ce * tau / N, alpha_mlm / M, 2 * alpha_mse / N)]
    sums = np.zeros((N, 3))  # of each row: KL, surprise at the label, squared error
    dx, dweight, dbias = empty(x.shape), zeros(weight.shape), np.zeros(V, np.float32)
    logits = empty((min(ROWS, N), V))
    for start in range(0, N, ROWS):
        rows = slice(start, min(start + ROWS, N))
        z = matmul(x[rows], weight.T, out=logits[: rows.stop - start], bias=bias)
        t = teacher(rows).astype(np.float32, copy=False) if alpha_ce or alpha_mse else z
        _turn_into_gradient(z, t, labels[rows], np.float32(1 / tau), *factors, sums[rows])
        t = None  # its memory is the next chunk's
        for v in range(0, V, WORDS):
            matmul(z[:, v : v + WORDS], weight[v : v + WORDS], out=dx[rows], add=v > 0)
        matmul(z.T, x[rows], out=dweight, add=True)
        dbias += linear.column_sums(z)
    ce, mlm, mse_ = sums.sum(axis=0)
    parts = {"ce": (alpha_ce, tau**2 * ce / N), "mlm": (alpha_mlm, mlm / M),
             "mse": (alpha_mse, mse_ / N)}  # fmt: skip
    y = sum(alpha * part for alpha, part in parts.values() if alpha)
    parts = {name: np.float32(part) for name, (alpha, part) in parts.items() if alpha}
    return np.float32(y), VocabularyCache(parts, dx, dweight, dbias)


@kernel
def _turn_into_gradient(z, t, labels, cool, soft, hard, squared, sums):
    # First every sum over a row of z, then ∂z in its place: a block at a time, so that what the
    # three losses add lies in the first-level cache. A loss of factor 0 is not looked at.
    for n in prange(len(z)):
        zn, tn, label = z[n], t[n], labels[n]
        labelled = label != IGNORED
        soft_sums, d = np.empty(4, np.float32), np.empty(BLOCK, np.float32)
        top = total = np.float32(1)
        if soft != 0:
            sums[n, 0] = divergence(zn, tn, cool, soft_sums)
        if labelled:
            top, total = exp_sum(zn, np.float32(1))
            sums[n, 1] = surprise(zn[label], top, total)
        if squared != 0:
            sums[n, 2] = squared_distance(zn, tn)
        for start in range(0, len(zn), BLOCK):
            zb, tb = zn[start : start + BLOCK], tn[start : start + BLOCK]
            dz = d[: len(zb)]
            for j in range(len(dz)):
                dz[j] = 0
            if soft != 0:
                add_difference(zb, tb, cool, soft_sums, soft, dz)
            if labelled:
                add_softmax(zb, top, hard / total, dz)
            if squared != 0:
                add_error(zb, tb, squared, dz)
            for j in range(len(zb)):
                zb[j] = dz[j]
        if labelled:
            zn[label] -= hard


def backward_cpu(dy, cache):
    if dy == 1:
        return tuple(cache[1:])
    return tuple(gradient * np.float32(dy) for gradient in cache[1:])


# ------------------------------------------------------- CUDA: chunks of rows, a block for each row

LOWEST = np.float32(-1e30)  # below every logit that a word with a chance has


def forward_cuda(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0,
                 alpha_mlm=0.0, alpha_mse=0.0):  # fmt: skip
    _check(len(x), labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    (N, C), V = x.shape, len(weight)
    labels = np.full(N, IGNORED) if labels is None or not alpha_mlm else labels
    M = max(1, np.count_nonzero(labels != IGNORED))
    labels, pitch = to_device(labels), -(-V // 4) * 4  # rows begin where a 128-bit load may
    factors = [np.float32(a) for a in (alpha_ce * tau / N, alpha_mlm / M, 2 * alpha_mse / N)]
    sums, logits = device_empty((N, 3)), device_empty((min(ROWS, N), pitch))
    dx, dweight, dbias = device_empty((N, C)), device_zeros((V, C)), device_zeros(V)
    for start in range(0, N, ROWS):
        rows = slice(start, min(start + ROWS, N))
        xs, n = x[rows], rows.stop - start
        z = logits[:n]
        matmul_cuda.matmul(xs, weight, z, transpose_b=True, bias=bias, size=(n, V, C))
        t = teacher(rows) if alpha_ce or alpha_mse else z
        _turn_into_gradient_kernel[n, TEAM](
            z, t, labels[rows], V, np.float32(1 / tau), *factors, sums[rows]
        )
        matmul_cuda.matmul(z, weight, dx[rows], size=(n, C, V))
        matmul_cuda.matmul(z, xs, dweight, transpose_a=True, add=True, size=(V, C, n))
        linear.column_sums_cuda(z, dbias, V)
    y, parts = device_empty(1), device_empty(3)
    weights = [np.float32(w) for w in (tau**2 / N, 1 / M, 1 / N, alpha_ce, alpha_mlm, alpha_mse)]
    _add_losses_kernel[1, TEAM](sums, *weights, parts, y)
    alphas = {"ce": alpha_ce, "mlm": alpha_mlm, "mse": alpha_mse}
    parts = {name: parts[i : i + 1] for i, name in enumerate(alphas) if alphas[name]}
    return y, VocabularyCache(parts, dx, dweight, dbias)


@cuda_kernel
def _turn_into_gradient_kernel(z, t, labels, V, cool, soft, hard, squared, sums):
    n, first, step = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    label = labels[n]
    top, top_t = LOWEST, LOWEST
    for v in range(first, V, step):
        top, top_t = max(top, z[n, v]), max(top_t, t[n, v])
    top, top_t = block_max(top), block_max(top_t)
    total, total_s, total_t = float32(0), float32(0), float32(0)
    gap, square = float32(0), float32(0)
    for v in range(first, V, step):
        s, theirs = z[n, v] - top, t[n, v] - top_t
        if label != IGNORED:
            total += float32(math.exp(s))
        if soft != 0:
            believed = float32(math.exp(theirs * cool))
            total_s += float32(math.exp(s * cool))
            total_t += believed
            if t[n, v] != kl_div.RULED_OUT:
                gap += believed * (theirs - s) * cool
        if squared != 0:
            square += (z[n, v] - t[n, v]) * (z[n, v] - t[n, v])
    if label != IGNORED:
        total = block_sum(total)
    if soft != 0:
        total_s, total_t, gap = block_sum(total_s), block_sum(total_t), block_sum(gap)
    if squared != 0:
        square = block_sum(square)
    if first == 0:
        sums[n, 0] = gap / total_t - float32(math.log(total_t / total_s)) if soft != 0 else soft
        sums[n, 1] = float32(0)
        if label != IGNORED:
            sums[n, 1] = float32(math.log(total)) + (top - z[n, label])
        sums[n, 2] = square
    cuda.syncthreads()  # the logit at the label is read before it is overwritten
    for v in range(first, z.shape[1], step):
        d = float32(0)
        if v < V:
            if soft != 0:
                d += soft * float32(math.exp((z[n, v] - top) * cool)) / total_s
                d -= soft * float32(math.exp((t[n, v] - top_t) * cool)) / total_t
            if label != IGNORED:
                d += hard * float32(math.exp(z[n, v] - top)) / total
                if v == label:
                    d -= hard
            if squared != 0:
                d += squared * (z[n, v] - t[n, v])
        z[n, v] = d


@cuda_kernel
def _add_losses_kernel(sums, ce, mlm, mse_, alpha_ce, alpha_mlm, alpha_mse, parts, y):
    a, b, c = float32(0), float32(0), float32(0)
    for n in range(cuda.threadIdx.x, sums.shape[0], cuda.blockDim.x):
        a, b, c = a + sums[n, 0], b + sums[n, 1], c + sums[n, 2]
    a, b, c = block_sum(a) * ce, block_sum(b) * mlm, block_sum(c) * mse_
    if cuda.threadIdx.x == 0:
        parts[0], parts[1], parts[2] = a, b, c
        y[0] = alpha_ce * a + alpha_mlm * b + alpha_mse * c


def backward_cuda(dy, cache):
    if dy == 1:
        return tuple(cache[1:])
    return tuple(global_norm.scaled_cuda(cache[1:], dy))
