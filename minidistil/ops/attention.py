"""Attention: every token collects the values of all tokens of its sequence, weighted by affinity.

Rows are real tokens, one sequence after another; sequence b owns rows bounds[b] to bounds[b+1].
For each sequence (t rows) and each head h, with q, k, v the head's D = C/H channels:

    s = (q/√D)·kᵀ      (t,t)  scores
    a = softmax(s)            each query's weights over the keys
    y = dropout(a)·v   (t,D)  context

Backward, the same lines read upwards, writing m for dropout's mask (already divided by 1−p):

    ∂v = (m⊙a)ᵀ·∂y            ∂a = m⊙(∂y·vᵀ)
    ∂s = a⊙(∂a − Σ_keys ∂a⊙a)
    ∂k = ∂sᵀ·(q/√D)           ∂q = ∂s·k/√D

No score is ever masked: padding has no row, and a sequence meets only itself.
Source: Vaswani et al., "Attention is all you need", 2017, eq. 1; queries are scaled before the
product, as in Hugging Face's DistilBERT.
"""

import math

import numpy as np

from minidistil.ops import dropout, softmax
from minidistil.ops._cpu import exp, kernel, prange, serial
from minidistil.ops.dropout import philox_words, words_of

HEAD_SHIFT = 16  # dropout's counter for head h and keys 4j..4j+3 is (h << 16) | j

# ------------------------------------------------------- NumPy: the specification


def forward(q, k, v, *, bounds, n_heads, draw=None):
    """q, k, v (N,C), bounds (B+1,)  ->  y (N,C), cache.  draw: dropout on the weights, or None."""
    y, weights = np.empty_like(q), []
    for b in range(len(bounds) - 1):
        rows = slice(bounds[b], bounds[b + 1])
        qh, kh, vh = (split_heads(x[rows], n_heads) for x in (q, k, v))  # (H,t,D)
        s = (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)  # (H,t,t)
        a, _ = softmax.forward(s.reshape(-1, s.shape[2]))
        a = a.reshape(s.shape)
        y[rows] = merge_heads((a * _mask(draw, rows, n_heads, a)) @ vh)
        weights.append(a)
    return y, (q, k, v, weights, bounds, n_heads, draw)


def backward(dy, cache):
    """dy (N,C), cache  ->  dq, dk, dv (N,C)."""
    q, k, v, weights, bounds, n_heads, draw = cache
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    for b, a in enumerate(weights):
        rows = slice(bounds[b], bounds[b + 1])
        qh, kh, vh, dyh = (split_heads(x[rows], n_heads) for x in (q, k, v, dy))
        m = _mask(draw, rows, n_heads, a)  # (H,t,t)
        dv[rows] = merge_heads((a * m).swapaxes(1, 2) @ dyh)
        da = m * (dyh @ vh.swapaxes(1, 2))  # (H,t,t)
        (ds,) = softmax.backward(da.reshape(-1, a.shape[2]), a.reshape(-1, a.shape[2]))
        ds = ds.reshape(a.shape) / math.sqrt(qh.shape[2])
        dk[rows] = merge_heads(ds.swapaxes(1, 2) @ qh)
        dq[rows] = merge_heads(ds @ kh)
    return dq, dk, dv


def split_heads(x, n_heads):
    """(t,C)  ->  (H,t,D)."""
    return x.reshape(len(x), n_heads, -1).swapaxes(0, 1)


def merge_heads(x):
    """(H,t,D)  ->  (t,C)."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def _mask(draw, rows, n_heads, a):
    """Dropout's m/(1−p) for the weights a (H,t,t) of one sequence; ones when nothing is drawn."""
    if draw is None:
        return np.ones((), a.dtype)
    t = a.shape[1]
    key0, key1, site, threshold = words_of(draw)
    head, block = np.arange(n_heads)[:, None, None], np.arange(-(-t // 4))[None, None, :]
    counter = np.broadcast_arrays(
        site,
        draw.sequence[rows][None, :, None],
        draw.column[rows][None, :, None],
        (head << HEAD_SHIFT) | block,
    )
    words = np.stack(dropout.philox(*counter, key0, key1), axis=-1).reshape(n_heads, t, -1)
    return ((words[:, :, :t] >= threshold) / (1 - draw.p)).astype(a.dtype)


# ------------------------------------------------------- Numba: (sequence, head) pairs across cores


def forward_cpu(q, k, v, *, bounds, n_heads, draw=None):
    y = np.empty_like(q)
    starts = _weight_starts(bounds, n_heads)
    weights = np.empty(starts[-1], q.dtype)  # a, one (t,t) square after another
    _forward_pairs(q, k, v, bounds, n_heads, starts, *_dropout_arguments(draw), y, weights)
    return y, (q, k, v, weights, bounds, n_heads, draw)


def _weight_starts(bounds, n_heads):
    """Where each sequence's H·t·t weights begin in the flat array."""
    return np.concatenate([[0], np.cumsum(n_heads * np.diff(bounds) ** 2)])


def _dropout_arguments(draw):
    if draw is None:
        nobody = np.zeros(0, np.int64)
        return (nobody, nobody, *np.zeros(4, np.uint32), np.float32(1))
    return (draw.sequence, draw.column, *words_of(draw), np.float32(1 / (1 - draw.p)))


# fmt: off
@kernel
def _forward_pairs(q, k, v, bounds, H, starts, sequence, column, key0, key1, site, threshold, keep,
                   y, weights):
    D = q.shape[1] // H
    scale = np.float32(1 / math.sqrt(D))
    for pair in prange((len(bounds) - 1) * H):
        b, h = pair // H, pair % H
        first, t = bounds[b], bounds[b + 1] - bounds[b]
        a = weights[starts[b] + h * t * t : starts[b] + (h + 1) * t * t].reshape(t, t)
        multiply(head_rows(q, first, t, h, D, scale), head_columns(k, first, t, h, D), a)
        for i in range(t):
            _softmax_row(a[i])
        if len(column) == 0:
            kept = a
        else:
            kept, m = np.empty((t, t), np.float32), np.empty(t + 3, np.float32)
            for i in range(t):
                _draw_row(sequence[first + i], column[first + i], h, key0, key1, site, threshold,
                          keep, t, m)
                for j in range(t):
                    kept[i, j] = a[i, j] * m[j]
        context = np.empty((t, D), np.float32)
        multiply(kept, head_rows(v, first, t, h, D, np.float32(1)), context)
        put_head(context, first, h, y)


def backward_cpu(dy, cache):
    q, k, v, weights, bounds, n_heads, draw = cache
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    starts = _weight_starts(bounds, n_heads)
    _backward_pairs(dy, q, k, v, weights, bounds, n_heads, starts, *_dropout_arguments(draw),
                    dq, dk, dv)
    return dq, dk, dv


@kernel
def _backward_pairs(dy, q, k, v, weights, bounds, H, starts, sequence, column, key0, key1, site,
                    threshold, keep, dq, dk, dv):
    D = q.shape[1] // H
    scale = np.float32(1 / math.sqrt(D))
    for pair in prange((len(bounds) - 1) * H):
        b, h = pair // H, pair % H
        first, t = bounds[b], bounds[b + 1] - bounds[b]
        a = weights[starts[b] + h * t * t : starts[b] + (h + 1) * t * t].reshape(t, t)
        dyh = head_rows(dy, first, t, h, D, np.float32(1))
        ds, m = np.empty((t, t), np.float32), np.ones(t + 3, np.float32)
        kept_t, ds_t = np.empty((t, t), np.float32), np.empty((t, t), np.float32)  # transposed
        multiply(dyh, head_columns(v, first, t, h, D), ds)  # ∂y·vᵀ, to become ∂a and then ∂s
        for i in range(t):
            if len(column) > 0:
                _draw_row(sequence[first + i], column[first + i], h, key0, key1, site, threshold,
                          keep, t, m)
            along = np.float32(0)
            for j in range(t):
                ds[i, j] *= m[j]
                along += ds[i, j] * a[i, j]
            for j in range(t):
                ds[i, j] = a[i, j] * (ds[i, j] - along)
            for j in range(t):
                kept_t[j, i] = a[i, j] * m[j]
                ds_t[j, i] = ds[i, j]
        out = np.empty((t, D), np.float32)
        multiply(kept_t, dyh, out)
        put_head(out, first, h, dv)
        multiply(ds_t, head_rows(q, first, t, h, D, scale), out)
        put_head(out, first, h, dk)
        multiply(ds, head_rows(k, first, t, h, D, scale), out)
        put_head(out, first, h, dq)
# fmt: on


@serial
def head_rows(x, first, t, h, D, scale):
    """scale · channels of head h, rows first to first+t: a block of its own, (t,D)."""
    out = np.empty((t, D), np.float32)
    for i in range(t):
        for d in range(D):
            out[i, d] = x[first + i, h * D + d] * scale
    return out


@serial
def head_columns(x, first, t, h, D):
    """The same transposed, (D,t), so that neighbouring keys fill one vector."""
    out = np.empty((D, t), np.float32)
    for i in range(t):
        for d in range(D):
            out[d, i] = x[first + i, h * D + d]
    return out


@serial
def put_head(block, first, h, x):
    """Write a block (t,D) back where head h lies in x (N,C)."""
    t, D = block.shape
    for i in range(t):
        for d in range(D):
            x[first + i, h * D + d] = block[i, d]


@serial
def multiply(left, right, out):
    """out (m,n) = left (m,k) · right (k,n).

    Four steps of k at once: each row of `out` is then loaded and stored a quarter as often.
    """
    m, K = left.shape
    n, whole = right.shape[1], K - K % 4
    for i in range(m):
        for j in range(n):
            out[i, j] = np.float32(0)
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = left[i, k], left[i, k + 1], left[i, k + 2], left[i, k + 3]
            for j in range(n):
                out[i, j] += (a0 * right[k, j] + a1 * right[k + 1, j]) + (
                    a2 * right[k + 2, j] + a3 * right[k + 3, j]
                )
        for k in range(whole, K):
            for j in range(n):
                out[i, j] += left[i, k] * right[k, j]


@serial
def _softmax_row(a):
    top = a[0]
    for j in range(len(a)):
        top = max(top, a[j])
    total = np.float32(0)
    for j in range(len(a)):
        a[j] = exp(a[j] - top)
        total += a[j]
    for j in range(len(a)):
        a[j] /= total


@serial
def _draw_row(sequence, column, h, key0, key1, site, threshold, keep, t, m):
    """m[j] = 1/(1−p) or 0 for the t keys of one query; m has room for whole blocks of four."""
    s, c = np.uint32(sequence), np.uint32(column)
    for block in range((t + 3) // 4):
        counter = np.uint32((h << HEAD_SHIFT) | block)
        w0, w1, w2, w3 = philox_words(site, s, c, counter, key0, key1)
        m[4 * block] = keep if w0 >= threshold else np.float32(0)
        m[4 * block + 1] = keep if w1 >= threshold else np.float32(0)
        m[4 * block + 2] = keep if w2 >= threshold else np.float32(0)
        m[4 * block + 3] = keep if w3 >= threshold else np.float32(0)
