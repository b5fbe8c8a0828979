"""The vocabulary head with its losses: only the logits of one chunk of rows exist at a time.

With z_s = x·Wᵀ + b the student's and z_t the teacher's logits, both (N,V), and M the rows that have
a label:

    y = α_ce·ce + α_mlm·mlm + α_mse·mse

    ce  = τ²·mean_N KL(softmax(z_t/τ) ‖ softmax(z_s/τ))      mse = Σ (z_s − z_t)² / N
    mlm = mean_M lse(z_s) − z_s[label]

Each row's gradient follows from its logits alone:

    ∂z_s = α_ce·τ/N·(softmax(z_s/τ) − softmax(z_t/τ)) + 2·α_mse/N·(z_s − z_t)
           + α_mlm/|M|·(softmax(z_s) − onehot(label))  where n ∈ M

    ∂x = ∂z_s·W          ∂W = ∂z_sᵀ·x          ∂b = Σ_n ∂z_s[n]

So forward replaces each chunk of z_s by ∂z_s in place and adds up the three products; backward only
scales them. For DistilBERT's vocabulary of 30,522 and a thousand tokens, all of z_s and z_t would
take 250 MB.
Sources: those of `cross_entropy`, `kl_div` and `mse`, whose composition this is.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minidistil.ops import cross_entropy, global_norm, kl_div, linear, mse
from minidistil.ops.cross_entropy import nll
from minidistil.ops.kernels import matmul_cuda
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.kl_div import MINUS_INFINITY, add_difference, divergence
from minidistil.ops.mse import add_error, squared_distance
from minidistil.ops.runtime.cpu import kernel, own_code, prange, serial
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
from minidistil.ops.runtime.workspace import empty
from minidistil.ops.softmax import BLOCK, add_softmax, max_and_sum

IGNORED = -100  # a label
# Of a chunk, 125 MB of BERT's logits. Every chunk packs W twice and passes over ∂W, which is to be
# read and written once for all rows of a usual batch.
ROWS = 1024
# Columns of ∂z_s in one product with W: it packs 9 MB of W and not all of it, and so many channels
# of a few rows of ∂z_s fit into the second-level cache.
DEPTH = 12 * 256


class PerLoss(NamedTuple):
    """A number for each loss."""

    ce: float
    mlm: float
    mse: float


class VocabularyCache(NamedTuple):
    """The losses before weighting, and the gradient of their weighted sum."""

    parts: dict  # of "ce", "mlm" and "mse", those whose alpha is not 0
    dx: np.ndarray  # (N,C)
    dweight: np.ndarray  # (V,C)
    dbias: np.ndarray  # (V,)


class Losses(NamedTuple):
    """What is computed of the logits. A loss whose alpha is 0 is not."""

    labels: np.ndarray | None = None  # (N,) integers, −100 where there is none
    teacher: Callable | None = None  # a slice of the rows  ->  the teacher's logits (·,V)
    tau: float = 2.0
    alpha_ce: float = 0.0
    alpha_mlm: float = 0.0
    alpha_mse: float = 0.0


# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0, alpha_mlm=0.0,
            alpha_mse=0.0):  # fmt: skip
    """x (N,C), weight (V,C), bias (V,)  ->  y (), cache with `parts`.

    The fixed arguments are the fields of Losses. Raises ValueError for a loss without its labels or
    its teacher, and for a tau that is not above 0.
    """
    asked = Losses(labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    return composed(linear, x, weight, bias, asked)


def composed(head, x, weight, bias, asked):
    """The composition of head, `linear` or its narrow form, and the losses: all as in `forward`."""
    _check(len(x), asked)
    z_s, product = head.forward(x, weight, bias)
    z_t = asked.teacher(slice(0, len(x))).astype(x.dtype) if _asks_teacher(asked) else None
    losses = {
        "ce": (asked.alpha_ce, kl_div, {"teacher": z_t, "tau": asked.tau}),
        "mlm": (asked.alpha_mlm, cross_entropy, {"labels": asked.labels}),
        "mse": (asked.alpha_mse, mse, {"target": z_t, "reduction": "batchmean"}),
    }
    parts, dz = {}, np.zeros_like(z_s)
    for name, (alpha, op, fixed) in losses.items():
        if alpha:
            parts[name], cache = op.forward(z_s, **fixed)
            dz += op.backward(x.dtype.type(alpha), cache)[0]
    y = sum(losses[name][0] * part for name, part in parts.items())
    return x.dtype.type(y), VocabularyCache(parts, *head.backward(dz, product))


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C), dweight (V,C), dbias (V,)."""
    return tuple(gradient * dy for gradient in cache[1:])


def _asks_teacher(asked):
    return bool(asked.alpha_ce or asked.alpha_mse)


def _check(N, asked):
    """Raises ValueError for what `forward` refuses."""
    labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse = asked
    if not (alpha_ce or alpha_mlm or alpha_mse):
        raise ValueError("every alpha is 0: there is nothing to learn from")
    if _asks_teacher(asked) and teacher is None:
        raise ValueError(f"alpha_ce {alpha_ce} and alpha_mse {alpha_mse} need a teacher; give one")
    if not tau > 0:
        raise ValueError(f"temperature must be above 0, not {tau}")
    if alpha_mlm and (labels is None or (labels == IGNORED).all()):
        raise ValueError(f"alpha_mlm {alpha_mlm} needs a label, none of {N} rows has one")


# ------------------------------------------------------- Numba: chunks of rows


def forward_cpu(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0,
                alpha_mlm=0.0, alpha_mse=0.0):  # fmt: skip
    asked = Losses(labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    return in_chunks(_logits, matmul, x, weight, bias, asked)


def _logits(x, weight, bias):
    return matmul(x, weight.T, bias=bias)


def in_chunks(logits, matmul, x, weight, bias, asked):
    """logits: x·Wᵀ + b, of a chunk; matmul: the two products of the backward; see `composed`."""
    _check(len(x), asked)
    N, V = len(x), len(weight)
    labels, M = _labels(N, asked)
    factors = _factors(N, M, asked)
    sums = np.zeros((N, 3))  # of each row: KL, NLL of the label, squared error
    dx, dweight, dbias = empty(x.shape), empty(weight.shape), np.zeros(V, np.float32)
    for start in range(0, N, ROWS):
        rows = slice(start, min(start + ROWS, N))
        z_t = z_s = logits(x[rows], weight, bias)
        if _asks_teacher(asked):
            z_t = asked.teacher(rows).astype(np.float32, copy=False)
        inv_tau = np.float32(1 / asked.tau)
        _replace_by_gradient(z_s, z_t, labels[rows], inv_tau, factors, sums[rows])
        dz, z_s, z_t = z_s, None, None  # z_t's memory serves the next chunk
        for v in range(0, V, DEPTH):
            matmul(dz[:, v : v + DEPTH], weight[v : v + DEPTH], out=dx[rows], add=v > 0)
        matmul(dz.T, x[rows], out=dweight, add=start > 0)
        dbias += linear.column_sums(dz)
        dz = None
    ce, mlm, mse_ = sums.sum(axis=0)
    parts = {"ce": (asked.alpha_ce, asked.tau**2 * ce / N), "mlm": (asked.alpha_mlm, mlm / M),
             "mse": (asked.alpha_mse, mse_ / N)}  # fmt: skip
    y = sum(alpha * part for alpha, part in parts.values() if alpha)
    parts = {name: np.float32(part) for name, (alpha, part) in parts.items() if alpha}
    return np.float32(y), VocabularyCache(parts, dx, dweight, dbias)


def _labels(N, asked):
    """labels (N,), of which −100 are left out, and the number of the others, 1 at least."""
    none = asked.labels is None or not asked.alpha_mlm
    labels = np.full(N, IGNORED) if none else asked.labels
    return labels, max(1, np.count_nonzero(labels != IGNORED))


def _factors(N, M, asked):
    """What each loss multiplies its part of ∂z_s by."""
    factors = asked.alpha_ce * asked.tau / N, asked.alpha_mlm / M, 2 * asked.alpha_mse / N
    return PerLoss(*map(np.float32, factors))


@kernel
def _replace_by_gradient(z_s, z_t, labels, inv_tau, factors, sums):
    for n in prange(len(z_s)):
        _gradient_of_row(z_s[n], z_t[n], labels[n], inv_tau, factors, sums[n])


@serial
def _gradient_of_row(row_s, row_t, label, inv_tau, factors, sums):
    # All sums over a row come first, then ∂z_s takes the place of z_s, a block at a time, so that
    # what the three losses add stays in the first-level cache. A loss of factor 0 is not computed.
    own_code()
    by_ce, by_mlm, by_mse = factors
    labelled = label != IGNORED
    soft_sums, d = np.empty(4, np.float32), np.empty(BLOCK, np.float32)
    top = total = np.float32(1)
    if by_ce != 0:
        sums[0] = divergence(row_s, row_t, inv_tau, soft_sums)
    if labelled:
        top, total = max_and_sum(row_s)
        sums[1] = nll(row_s[label], top, total)
    if by_mse != 0:
        sums[2] = squared_distance(row_s, row_t)
    for start in range(0, len(row_s), BLOCK):
        s, t = row_s[start : start + BLOCK], row_t[start : start + BLOCK]
        dz = d[: len(s)]
        for j in range(len(dz)):
            dz[j] = 0
        if by_ce != 0:
            add_difference(s, t, inv_tau, soft_sums, by_ce, dz)
        if labelled:
            add_softmax(s, top, by_mlm / total, dz)
        if by_mse != 0:
            add_error(s, t, by_mse, dz)
        for j in range(len(s)):
            s[j] = dz[j]
    if labelled:
        row_s[label] -= by_mlm


def backward_cpu(dy, cache):
    if dy == 1:
        return tuple(cache[1:])
    return tuple(gradient * np.float32(dy) for gradient in cache[1:])


# ------------------------------------------------------- CUDA: chunks of rows, a block for each row

INITIAL_MAX = np.float32(-1e30)  # of a running maximum: below every finite logit


def forward_cuda(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0,
                 alpha_mlm=0.0, alpha_mse=0.0):  # fmt: skip
    asked = Losses(labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    _check(len(x), asked)
    (N, C), V = x.shape, len(weight)
    labels, M = _labels(N, asked)
    labels, pitch = to_device(labels), -(-V // 4) * 4  # rows begin where a 128-bit load may
    factors, tau = _factors(N, M, asked), asked.tau
    sums, logits = device_empty((N, 3)), device_empty((min(ROWS, N), pitch))
    dx, dweight, dbias = device_empty((N, C)), device_zeros((V, C)), device_zeros(V)
    for start in range(0, N, ROWS):
        rows = slice(start, min(start + ROWS, N))
        xs, n = x[rows], rows.stop - start
        z_s = logits[:n]
        matmul_cuda.matmul(xs, weight, z_s, transpose_b=True, bias=bias, size=(n, V, C))
        z_t = asked.teacher(rows) if _asks_teacher(asked) else z_s
        _replace_by_gradient_kernel[n, TEAM](
            z_s, z_t, labels[rows], V, np.float32(1 / tau), factors, sums[rows]
        )
        dz = z_s
        matmul_cuda.matmul(dz, weight, dx[rows], size=(n, C, V))
        matmul_cuda.matmul(dz, xs, dweight, transpose_a=True, add=True, size=(V, C, n))
        linear.column_sums_cuda(dz, dbias, V)
    y, parts = device_empty(1), device_empty(3)
    means = PerLoss(*map(np.float32, (tau**2 / N, 1 / M, 1 / N)))
    alphas = PerLoss(asked.alpha_ce, asked.alpha_mlm, asked.alpha_mse)
    _add_losses_kernel[1, TEAM](sums, means, PerLoss(*map(np.float32, alphas)), parts, y)
    parts = {name: parts[i : i + 1] for i, name in enumerate(PerLoss._fields) if alphas[i]}
    return y, VocabularyCache(parts, dx, dweight, dbias)


@cuda_kernel
def _replace_by_gradient_kernel(z_s, z_t, labels, V, inv_tau, factors, sums):
    n, first, step = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    label, (by_ce, by_mlm, by_mse) = labels[n], factors
    top_s, top_t = INITIAL_MAX, INITIAL_MAX
    for v in range(first, V, step):
        top_s, top_t = max(top_s, z_s[n, v]), max(top_t, z_t[n, v])
    top_s, top_t = block_max(top_s), block_max(top_t)
    total, total_s, total_t = float32(0), float32(0), float32(0)  # Σ e^z_s, e^(z_s/τ), e^(z_t/τ)
    gap, square = float32(0), float32(0)
    for v in range(first, V, step):
        below_s, below_t = z_s[n, v] - top_s, z_t[n, v] - top_t
        if label != IGNORED:
            total += float32(math.exp(below_s))
        if by_ce != 0:
            e_t = float32(math.exp(below_t * inv_tau))
            total_s += float32(math.exp(below_s * inv_tau))
            total_t += e_t
            if z_t[n, v] != MINUS_INFINITY:
                gap += e_t * (below_t - below_s) * inv_tau
        if by_mse != 0:
            square += (z_s[n, v] - z_t[n, v]) * (z_s[n, v] - z_t[n, v])
    if label != IGNORED:
        total = block_sum(total)
    if by_ce != 0:
        total_s, total_t, gap = block_sum(total_s), block_sum(total_t), block_sum(gap)
    if by_mse != 0:
        square = block_sum(square)
    if first == 0:
        kl = gap / total_t - float32(math.log(total_t / total_s)) if by_ce != 0 else by_ce
        sums[n, 0], sums[n, 1], sums[n, 2] = kl, float32(0), square
        if label != IGNORED:
            sums[n, 1] = float32(math.log(total)) + (top_s - z_s[n, label])
    cuda.syncthreads()  # the logit at the label is read before it is overwritten
    for v in range(first, z_s.shape[1], step):
        d = float32(0)
        if v < V:
            if by_ce != 0:
                d += by_ce * float32(math.exp((z_s[n, v] - top_s) * inv_tau)) / total_s
                d -= by_ce * float32(math.exp((z_t[n, v] - top_t) * inv_tau)) / total_t
            if label != IGNORED:
                d += by_mlm * float32(math.exp(z_s[n, v] - top_s)) / total
                if v == label:
                    d -= by_mlm
            if by_mse != 0:
                d += by_mse * (z_s[n, v] - z_t[n, v])
        z_s[n, v] = d


@cuda_kernel
def _add_losses_kernel(sums, means, alphas, parts, y):
    ce, mlm, mse_ = float32(0), float32(0), float32(0)
    for n in range(cuda.threadIdx.x, sums.shape[0], cuda.blockDim.x):
        ce, mlm, mse_ = ce + sums[n, 0], mlm + sums[n, 1], mse_ + sums[n, 2]
    ce, mlm, mse_ = (
        block_sum(ce) * means.ce, block_sum(mlm) * means.mlm, block_sum(mse_) * means.mse
    )  # fmt: skip
    if cuda.threadIdx.x == 0:
        parts[0], parts[1], parts[2] = ce, mlm, mse_
        y[0] = alphas.ce * ce + alphas.mlm * mlm + alphas.mse * mse_


def backward_cuda(dy, cache):
    if dy == 1:
        return tuple(cache[1:])
    return tuple(global_norm.scaled_cuda(cache[1:], dy))
