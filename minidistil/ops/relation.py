"""Relations: how far the affinities among a student's tokens are from those among its teacher's.

Rows are real tokens, as in `attention`. For each sequence and each of H heads, with q and k the
head's D channels and q′, k′ the teacher's D′ (which may be more or fewer):

    s = q·kᵀ/√D       u = q′·k′ᵀ/√D′       (t,t)         a = softmax(s)       b = softmax(u)

and for each row of them, by `measure`,

    kl       Σ b·(ln b − ln a)       ∂s = a − b
    ce       −Σ b·ln a               ∂s = a − b           KL and the teacher's entropy
    scores   Σ (s − u)²              ∂s = 2(s − u)
    probs    Σ (a − b)²              ∂s = a⊙(g − Σ g⊙a)   g = 2(a − b)

    y = Σ_sequences w·Σ_heads Σ_rows                      ∂q = w·∂s·k/√D      ∂k = w·∂sᵀ·q/√D

One weight w for each sequence makes the sum a mean over rows, over entries, or over sequences of
means. Queries and keys give the attention itself (TinyBERT, MiniLM); queries with queries, keys
with keys and values with values the relations of MiniLMv2. The gradients are made in the forward,
where both sides' scores are at hand; `backward` scales them.
Sources: Jiao et al., "TinyBERT", 2020, eq. 7; Wang et al., "MiniLM", 2020, eq. 6 and 10, and
"MiniLMv2", 2021, eq. 4.
"""

import math

import numpy as np

from minidistil.ops import softmax
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

MEASURES = KL, CE, SCORES, PROBS = "kl", "ce", "scores", "probs"
IS_KL, IS_SCORES, IS_PROBS = map(MEASURES.index, (KL, SCORES, PROBS))  # what kernels are told


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
        qh, kh = split_heads(q[rows], n_heads), split_heads(k[rows], n_heads)  # (H,t,D)
        s, u = _scores(qh, kh), _scores(*(split_heads(x[rows], n_heads)
                                          for x in (target_q, target_k)))  # fmt: skip
        loss, ds = _distance(s, u, measure)  # (H,t,t)
        y += q.dtype.type(w) * loss
        ds *= q.dtype.type(w) / math.sqrt(qh.shape[2])
        dq[rows], dk[rows] = merge_heads(ds @ kh), merge_heads(ds.swapaxes(1, 2) @ qh)
    return y, (dq, dk)


def _scores(qh, kh):
    return (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)


def _distance(s, u, measure):
    """Scores of both (H,t,t)  ->  their distance (), ds (H,t,t)."""
    if measure == SCORES:
        return ((s - u) ** 2).sum(), 2 * (s - u)
    a, b = (softmax.forward(x.reshape(-1, x.shape[2]))[0].reshape(x.shape) for x in (s, u))
    if measure == PROBS:
        g = 2 * (a - b)
        return ((a - b) ** 2).sum(), a * (g - (g * a).sum(axis=2, keepdims=True))
    ln_a, ln_b = _log_softmax(s), _log_softmax(u)
    return (b * ((ln_b if measure == KL else 0) - ln_a)).sum(), a - b


def _log_softmax(s):
    below = s - s.max(axis=2, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=2, keepdims=True))


def backward(dy, cache):
    """dy (), cache  ->  dq, dk (N,C)."""
    return tuple(dy * x for x in cache)


# ------------------------------------------------------- Numba: sequences and heads across cores


def forward_cpu(q, k, *, target_q, target_k, bounds, n_heads, weights, measure=KL):
    number = check(q, target_q, n_heads, measure)
    q, k, target_q, target_k = (
        np.ascontiguousarray(x, np.float32) for x in (q, k, target_q, target_k)
    )
    dq, dk, parts = empty_like(q), empty_like(k), np.empty((len(weights), n_heads))
    weights = np.ascontiguousarray(weights, np.float32)
    _items(q, k, target_q, target_k, bounds, weights, number, dq, dk, parts)
    return np.float32(parts.sum()), (dq, dk)


@kernel
def _items(q, k, target_q, target_k, bounds, weights, measure, dq, dk, parts):
    """An item is a head of a sequence: its rows one by one, so that t numbers are all it keeps."""
    H = parts.shape[1]
    D, E = q.shape[1] // H, target_q.shape[1] // H
    root, root_t = np.float32(1 / math.sqrt(D)), np.float32(1 / math.sqrt(E))
    for item in prange(parts.size):
        b, h = item // H, item % H
        rows = slice(bounds[b], bounds[b + 1])
        mine, theirs = slice(h * D, (h + 1) * D), slice(h * E, (h + 1) * E)
        qh, kh, dqh, dkh = q[rows, mine], k[rows, mine], dq[rows, mine], dk[rows, mine]
        uq, uk = target_q[rows, theirs], target_k[rows, theirs]
        t, loss, w = len(qh), 0.0, weights[b]
        s, u = np.empty(t, np.float32), np.empty(t, np.float32)
        dkh[:] = 0
        for i in range(t):
            for j in range(t):
                s[j], u[j] = _dot(qh[i], kh[j]) * root, _dot(uq[i], uk[j]) * root_t
            loss += _row(s, u, measure)  # s is its gradient now
            dqh[i] = 0
            for j in range(t):
                ds = s[j] * w * root
                for d in range(D):
                    dqh[i, d] += ds * kh[j, d]
                    dkh[j, d] += ds * qh[i, d]
        parts[b, h] = w * loss


@helper
def _dot(x, y):
    total = np.float32(0)
    for d in range(len(x)):
        total += x[d] * y[d]
    return total


@helper
def _row(s, u, measure):
    """Scores of a row, s and u (t,)  ->  their distance; s becomes ∂s."""
    loss = 0.0
    if measure == IS_SCORES:
        for j in range(len(s)):
            gap = s[j] - u[j]
            loss += gap * gap
            s[j] = 2 * gap
        return loss
    top, top_u = s[0], u[0]
    for j in range(len(s)):
        top, top_u = max(top, s[j]), max(top_u, u[j])
    sum_s, sum_u = np.float32(0), np.float32(0)
    for j in range(len(s)):
        sum_s += exp(s[j] - top)
        sum_u += exp(u[j] - top_u)
    log_s, log_u, along = np.log(sum_s), np.log(sum_u), np.float32(0)
    for j in range(len(s)):
        below, below_u = s[j] - top, u[j] - top_u
        a, b = exp(below) / sum_s, exp(below_u) / sum_u
        gap = a - b
        if measure == IS_PROBS:
            loss += gap * gap
            along += 2 * gap * a
            u[j] = b
        else:
            loss += b * ((below_u - log_u if measure == IS_KL else np.float32(0)) - (below - log_s))
            s[j] = gap
    if measure == IS_PROBS:
        for j in range(len(s)):
            a = exp(s[j] - top) / sum_s
            s[j] = a * (2 * (a - u[j]) - along)
    return loss


def backward_cpu(dy, cache):
    return tuple(np.float32(dy) * x for x in cache)


# ------------------------------------------------------- CUDA: a block for each row of each head


def forward_cuda(q, k, *, target_q, target_k, bounds, n_heads, weights, measure=KL):
    number, (N, C) = check(q, target_q, n_heads, measure), q.shape
    q, k, target_q, target_k, weights = map(floats_to_device, (q, k, target_q, target_k, weights))
    lengths = np.diff(bounds)
    owner = np.repeat(np.arange(len(lengths)), lengths)  # (N,) which sequence a row is of
    start = np.concatenate([[0], np.cumsum(lengths[owner])])[:-1]  # (N,) scores of a head before it
    scores = device_empty(n_heads * int((lengths**2).sum())), *map(to_device, (owner, start))
    target, parts = device_empty(scores[0].shape), device_empty(N * n_heads)
    where, grid = to_device(np.asarray(bounds)), (N, n_heads)
    _rows_kernel[grid, TEAM](
        q, k, target_q, target_k, where, weights, number, *scores, target, parts
    )
    dq, dk = device_empty((N, C)), device_empty((N, C))
    _columns_kernel[grid, TEAM](q, k, where, weights, *scores, dq, dk)
    return total(parts, 1), (dq, dk)


@cuda_kernel
def _rows_kernel(q, k, target_q, target_k, bounds, weights, measure, s, owner, start, u, parts):
    n, h, H = cuda.blockIdx.x, cuda.blockIdx.y, cuda.gridDim.y
    b, me, step = owner[n], cuda.threadIdx.x, cuda.blockDim.x
    first, t = bounds[b], bounds[b + 1] - bounds[b]
    D, E, at = q.shape[1] // H, target_q.shape[1] // H, start[n] * H + h * t
    root, root_t = float32(1) / math.sqrt(float32(D)), float32(1) / math.sqrt(float32(E))
    top, top_u = float32(-3e38), float32(-3e38)
    for j in range(me, t, step):
        mine, theirs = float32(0), float32(0)
        for d in range(h * D, (h + 1) * D):
            mine += q[n, d] * k[first + j, d]
        for d in range(h * E, (h + 1) * E):
            theirs += target_q[n, d] * target_k[first + j, d]
        s[at + j], u[at + j] = mine * root, theirs * root_t
        top, top_u = max(top, mine * root), max(top_u, theirs * root_t)
    top, top_u = block_max(top), block_max(top_u)
    sum_s, sum_u, loss, along = float32(0), float32(0), float32(0), float32(0)
    for j in range(me, t, step):
        sum_s += math.exp(s[at + j] - top)
        sum_u += math.exp(u[at + j] - top_u)
    sum_s, sum_u = block_sum(sum_s), block_sum(sum_u)
    for j in range(me, t, step):
        if measure == IS_SCORES:
            gap = s[at + j] - u[at + j]
            loss += gap * gap
            s[at + j] = float32(2) * gap
        else:
            below, below_u = s[at + j] - top, u[at + j] - top_u
            p, o = math.exp(below) / sum_s, math.exp(below_u) / sum_u
            if measure == IS_PROBS:
                loss += (p - o) * (p - o)
                along += float32(2) * (p - o) * p
                s[at + j], u[at + j] = p, o
            else:
                heard = below_u - math.log(sum_u) if measure == IS_KL else float32(0)
                loss += o * (heard - (below - math.log(sum_s)))
                s[at + j] = p - o
    loss, along = block_sum(loss), block_sum(along)
    if measure == IS_PROBS:
        for j in range(me, t, step):
            p = s[at + j]
            s[at + j] = p * (float32(2) * (p - u[at + j]) - along)
    if me == 0:
        parts[n * H + h] = weights[b] * loss


@cuda_kernel
def _columns_kernel(q, k, bounds, weights, ds, owner, start, dq, dk):
    n, h, H = cuda.blockIdx.x, cuda.blockIdx.y, cuda.gridDim.y
    b = owner[n]
    first, t, D = bounds[b], bounds[b + 1] - bounds[b], q.shape[1] // H
    at, column = start[n] * H + h * t, start[first] * H + h * t + n - first
    weight = weights[b] / math.sqrt(float32(D))
    for d in range(h * D + cuda.threadIdx.x, (h + 1) * D, cuda.blockDim.x):
        along, down = float32(0), float32(0)
        for j in range(t):
            along += ds[at + j] * k[first + j, d]
            down += ds[column + j * H * t] * q[first + j, d]
        dq[n, d], dk[n, d] = weight * along, weight * down


def backward_cuda(dy, cache):
    from minidistil.ops.global_norm import scaled_cuda

    return tuple(scaled_cuda(cache, float(dy)))
