"""Self-attention relations (MiniLM): a loss on the scores between the tokens of a sequence.

Rows are real tokens, as in `attention`. For each sequence of T tokens and each of H heads, with q
and k the head's D channels in the student and q′, k′ its D′ channels in the teacher:

    z_s = q·kᵀ/√D      z_t = q′·k′ᵀ/√D′     (T,T)     p_s = softmax(z_s)     p_t = softmax(z_t)

and for each row of them, by `measure`,

    kl       Σ p_t·(ln p_t − ln p_s)       ∂z_s = p_s − p_t
    ce       −Σ p_t·ln p_s                 ∂z_s = p_s − p_t         kl plus the teacher's entropy
    scores   Σ (z_s − z_t)²                ∂z_s = 2(z_s − z_t)
    probs    Σ (p_s − p_t)²                ∂z_s = p_s⊙(g − Σ g⊙p_s)    g = 2(p_s − p_t)

    y = Σ_sequences w·Σ_heads Σ_rows       ∂q = w·∂z_s·k/√D         ∂k = w·∂z_sᵀ·q/√D

One weight w for each sequence makes the sum a mean over rows, over entries, or over sequences of
means. Queries and keys give the attention itself (TinyBERT, MiniLM); queries with queries, keys
with keys and values with values are the relations of MiniLMv2. The gradients are computed in
forward, which has the scores of both sides; `backward` scales them.
Sources: Jiao et al., "TinyBERT", 2020, eq. 7; Wang et al., "MiniLM", 2020, eq. 6 and 10, and
"MiniLMv2", 2021, eq. 4.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from minidistil.ops import softmax
from minidistil.ops.global_norm import scaled_cuda
from minidistil.ops.kernels.head_views import merge_heads, split_heads
from minidistil.ops.runtime.cpu import exp, helper, kernel, prange
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
from minidistil.ops.runtime.workspace import empty_like
from minidistil.ops.softmax import log_softmax

MEASURES = KL, CE, SCORES, PROBS = "kl", "ce", "scores", "probs"
IS_KL, IS_SCORES, IS_PROBS = map(MEASURES.index, (KL, SCORES, PROBS))  # as kernels take a measure


def check(q, target_q, n_heads, measure):
    """The measure's number for the kernels.

    Raises ValueError for widths that the heads do not divide, or an unknown measure.
    """
    for channels in (q.shape[1], target_q.shape[1]):
        if channels % n_heads:
            raise ValueError(f"{channels} channels do not split into {n_heads} equal heads")
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}")
    return MEASURES.index(measure)


# ------------------------------------------------------- NumPy: the specification


def forward(q, k, *, target_q, target_k, bounds, n_heads, weights, measure=KL):
    """q, k (N,C), target_q, target_k (N,C′), bounds (B+1,), weights (B,)  ->  y (), cache.

    Raises ValueError for widths that n_heads does not divide, or an unknown measure.
    """
    check(q, target_q, n_heads, measure)
    dq, dk, y = np.empty_like(q), np.empty_like(k), q.dtype.type(0)
    for b, w in enumerate(weights):
        rows = slice(bounds[b], bounds[b + 1])
        qh, kh, qh_t, kh_t = (split_heads(x[rows], n_heads) for x in (q, k, target_q, target_k))
        loss, dz = _distance(_scores(qh, kh), _scores(qh_t, kh_t), measure)  # (), (H,T,T)
        y += q.dtype.type(w) * loss
        dz *= q.dtype.type(w) / math.sqrt(qh.shape[2])
        dq[rows], dk[rows] = merge_heads(dz @ kh), merge_heads(dz.swapaxes(1, 2) @ qh)
    return y, (dq, dk)


def _scores(qh, kh):
    """qh, kh (H,T,D)  ->  (H,T,T)."""
    return (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)


def _distance(z_s, z_t, measure):
    """Scores (H,T,T)  ->  their distance (), dz_s (H,T,T)."""
    if measure == SCORES:
        return ((z_s - z_t) ** 2).sum(), 2 * (z_s - z_t)
    p_s, p_t = softmax.forward(z_s)[0], softmax.forward(z_t)[0]
    if measure == PROBS:
        g = 2 * (p_s - p_t)
        return ((p_s - p_t) ** 2).sum(), softmax.backward(g, p_s)[0]
    log_p_s, log_p_t = log_softmax(z_s), log_softmax(z_t) if measure == KL else 0
    return (p_t * (log_p_t - log_p_s)).sum(), p_s - p_t


def backward(dy, cache):
    """dy (), cache  ->  dq, dk (N,C)."""
    return tuple(dy * x for x in cache)


# ------------------------------------------------------- Numba: sequences and heads across cores


class QueryKey(NamedTuple):
    """Queries and keys of one side, or their gradients."""

    q: np.ndarray  # (N,C)
    k: np.ndarray  # (N,C)


def forward_cpu(q, k, *, target_q, target_k, bounds, n_heads, weights, measure=KL):
    number = check(q, target_q, n_heads, measure)
    q, k, target_q, target_k, weights = (
        np.ascontiguousarray(x, np.float32) for x in (q, k, target_q, target_k, weights)
    )
    student, teacher = QueryKey(q, k), QueryKey(target_q, target_k)
    gradients, parts = QueryKey(empty_like(q), empty_like(k)), np.empty((len(weights), n_heads))
    _heads(student, teacher, bounds, weights, number, gradients, parts)
    return np.float32(parts.sum()), tuple(gradients)


@kernel
def _heads(student, teacher, bounds, weights, measure, gradients, parts):
    """Each head of each sequence takes its rows one by one, so that it keeps T scores, not T²."""
    (q, k), (target_q, target_k), (dq, dk) = student, teacher, gradients
    H = parts.shape[1]
    D_s, D_t = q.shape[1] // H, target_q.shape[1] // H
    scale_s, scale_t = np.float32(1 / math.sqrt(D_s)), np.float32(1 / math.sqrt(D_t))
    for item in prange(parts.size):
        b, h = item // H, item % H
        rows = slice(bounds[b], bounds[b + 1])
        own, others = slice(h * D_s, (h + 1) * D_s), slice(h * D_t, (h + 1) * D_t)
        qh, kh, dqh, dkh = q[rows, own], k[rows, own], dq[rows, own], dk[rows, own]
        qh_t, kh_t = target_q[rows, others], target_k[rows, others]
        T, loss, w = len(qh), 0.0, weights[b]
        z_s, z_t = np.empty(T, np.float32), np.empty(T, np.float32)
        dkh[:] = 0
        for i in range(T):
            for j in range(T):
                z_s[j], z_t[j] = _dot(qh[i], kh[j]) * scale_s, _dot(qh_t[i], kh_t[j]) * scale_t
            loss += _row(z_s, z_t, measure)  # z_s holds its gradient now
            dqh[i] = 0
            for j in range(T):
                dz = z_s[j] * w * scale_s
                for d in range(D_s):
                    dqh[i, d] += dz * kh[j, d]
                    dkh[j, d] += dz * qh[i, d]
        parts[b, h] = w * loss


@helper
def _dot(x, y):
    total = np.float32(0)
    for d in range(len(x)):
        total += x[d] * y[d]
    return total


@helper
def _row(z_s, z_t, measure):
    """Scores of a row, both (T,)  ->  their distance; z_s is replaced by ∂z_s."""
    loss = 0.0
    if measure == IS_SCORES:
        for j in range(len(z_s)):
            gap = z_s[j] - z_t[j]
            loss += gap * gap
            z_s[j] = 2 * gap
        return loss
    top_s, top_t = z_s[0], z_t[0]
    for j in range(len(z_s)):  # one loop for both: each maximum waits for the one before
        top_s, top_t = max(top_s, z_s[j]), max(top_t, z_t[j])
    sum_s, sum_t = np.float32(0), np.float32(0)
    for j in range(len(z_s)):
        sum_s += exp(z_s[j] - top_s)
        sum_t += exp(z_t[j] - top_t)
    log_s, log_t, along = np.log(sum_s), np.log(sum_t), np.float32(0)
    for j in range(len(z_s)):
        below_s, below_t = z_s[j] - top_s, z_t[j] - top_t
        p_s, p_t = exp(below_s) / sum_s, exp(below_t) / sum_t
        gap = p_s - p_t
        if measure == IS_PROBS:
            loss += gap * gap
            along += 2 * gap * p_s
            z_t[j] = p_t
        else:
            log_p_t = below_t - log_t if measure == IS_KL else np.float32(0)
            loss += p_t * (log_p_t - (below_s - log_s))
            z_s[j] = gap
    if measure == IS_PROBS:
        for j in range(len(z_s)):
            p_s = exp(z_s[j] - top_s) / sum_s
            z_s[j] = p_s * (2 * (p_s - z_t[j]) - along)
    return loss


def backward_cpu(dy, cache):
    return tuple(np.float32(dy) * x for x in cache)


# ------------------------------------------------------- CUDA: a block for each row of each head

INITIAL_MAX = np.float32(-3e38)  # of a running maximum: below every score


def forward_cuda(q, k, *, target_q, target_k, bounds, n_heads, weights, measure=KL):
    number, (N, C) = check(q, target_q, n_heads, measure), q.shape
    q, k, target_q, target_k = map(floats_to_device, (q, k, target_q, target_k))
    lengths = np.diff(bounds)
    first, T = np.repeat(bounds[:-1], lengths), np.repeat(lengths, lengths)  # (N,)
    before = np.concatenate([[0], np.cumsum(T)])[:-1]  # (N,) scores of a head in the rows before
    places = to_device(np.stack([first, T, before], axis=1))
    weights = floats_to_device(np.repeat(weights, lengths))  # (N,)
    scores = device_empty((2, n_heads * int((lengths**2).sum())))
    parts, grid = device_empty(N * n_heads), (N, n_heads)
    _rows_kernel(number)[grid, TEAM](q, k, target_q, target_k, places, weights, scores, parts)
    dq, dk = device_empty((N, C)), device_empty((N, C))
    _gradients_kernel[grid, TEAM](q, k, places, weights, scores, dq, dk)
    return total(parts, 1), (dq, dk)


@cache
def _rows_kernel(measure):
    """Fills `scores` with ∂z_s and, in its second row, scratch; `parts` with each row's loss."""

    @cuda_kernel
    def relation_rows(q, k, target_q, target_k, places, weights, scores, parts):
        n, h, H = cuda.blockIdx.x, cuda.blockIdx.y, cuda.gridDim.y
        me, step, z_s, z_t = cuda.threadIdx.x, cuda.blockDim.x, scores[0], scores[1]
        first, T = places[n, 0], places[n, 1]
        D_s, D_t, at = q.shape[1] // H, target_q.shape[1] // H, places[n, 2] * H + h * T
        scale_s = float32(1) / math.sqrt(float32(D_s))
        scale_t = float32(1) / math.sqrt(float32(D_t))
        top_s, top_t = INITIAL_MAX, INITIAL_MAX
        for j in range(me, T, step):
            dot_s, dot_t = float32(0), float32(0)
            for d in range(h * D_s, (h + 1) * D_s):
                dot_s += q[n, d] * k[first + j, d]
            for d in range(h * D_t, (h + 1) * D_t):
                dot_t += target_q[n, d] * target_k[first + j, d]
            z_s[at + j], z_t[at + j] = dot_s * scale_s, dot_t * scale_t
            top_s, top_t = max(top_s, dot_s * scale_s), max(top_t, dot_t * scale_t)
        top_s, top_t = block_max(top_s), block_max(top_t)
        sum_s, sum_t, loss, along = float32(0), float32(0), float32(0), float32(0)
        for j in range(me, T, step):
            sum_s += math.exp(z_s[at + j] - top_s)
            sum_t += math.exp(z_t[at + j] - top_t)
        sum_s, sum_t = block_sum(sum_s), block_sum(sum_t)
        for j in range(me, T, step):
            if measure == IS_SCORES:
                gap = z_s[at + j] - z_t[at + j]
                loss += gap * gap
                z_s[at + j] = float32(2) * gap
            else:
                below_s, below_t = z_s[at + j] - top_s, z_t[at + j] - top_t
                p_s, p_t = math.exp(below_s) / sum_s, math.exp(below_t) / sum_t
                if measure == IS_PROBS:
                    loss += (p_s - p_t) * (p_s - p_t)
                    along += float32(2) * (p_s - p_t) * p_s
                    z_s[at + j], z_t[at + j] = p_s, p_t
                else:
                    log_p_t = below_t - math.log(sum_t) if measure == IS_KL else float32(0)
                    loss += p_t * (log_p_t - (below_s - math.log(sum_s)))
                    z_s[at + j] = p_s - p_t
        loss, along = block_sum(loss), block_sum(along)
        if measure == IS_PROBS:
            for j in range(me, T, step):
                p_s = z_s[at + j]
                z_s[at + j] = p_s * (float32(2) * (p_s - z_t[at + j]) - along)
        if me == 0:
            parts[n * H + h] = weights[n] * loss

    return relation_rows


@cuda_kernel
def _gradients_kernel(q, k, places, weights, scores, dq, dk):
    n, h, H, dz = cuda.blockIdx.x, cuda.blockIdx.y, cuda.gridDim.y, scores[0]
    first, T, D = places[n, 0], places[n, 1], q.shape[1] // H
    row = places[n, 2] * H + h * T  # where this token's row of dz begins
    column = places[first, 2] * H + h * T + n - first  # and its column, whose entries are H·T apart
    weight = weights[n] / math.sqrt(float32(D))
    for d in range(h * D + cuda.threadIdx.x, (h + 1) * D, cuda.blockDim.x):
        dq_d, dk_d = float32(0), float32(0)
        for j in range(T):
            dq_d += dz[row + j] * k[first + j, d]
            dk_d += dz[column + j * H * T] * q[first + j, d]
        dq[n, d], dk[n, d] = weight * dq_d, weight * dk_d


def backward_cuda(dy, cache):
    return tuple(scaled_cuda(cache, float(dy)))
