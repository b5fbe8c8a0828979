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

The specification keeps every weight, so its memory grows with t². The kernels, in `_attention.py`,
go through the weights in tiles, twice, and keep one number a row and head instead.
Source: Vaswani et al., "Attention is all you need", 2017, eq. 1; queries are scaled before the
product, as in Hugging Face's DistilBERT.
"""

import math

import numpy as np

from minidistil.ops import _attention, _attention_cuda, dropout, softmax
from minidistil.ops._attention import HEAD_SHIFT
from minidistil.ops._cuda import device_empty, to_device
from minidistil.ops._heads import merge_heads, split_heads
from minidistil.ops._memory import empty, empty_like
from minidistil.ops.dropout import words_of

# ------------------------------------------------------- NumPy: the specification


def forward(q, k, v, *, bounds, n_heads, draw=None, keep=True):
    """q, k, v (N,C), bounds (B+1,)  ->  y (N,C), cache.

    draw: dropout on the weights, or None. keep=False: no cache, nothing is written but y.
    """
    y, weights = np.empty_like(q), []
    for b in range(len(bounds) - 1):
        rows = slice(bounds[b], bounds[b + 1])
        qh, kh, vh = (split_heads(x[rows], n_heads) for x in (q, k, v))  # (H,t,D)
        s = (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)  # (H,t,t)
        a, _ = softmax.forward(s.reshape(-1, s.shape[2]))
        a = a.reshape(s.shape)
        y[rows] = merge_heads((a * _mask(draw, rows, n_heads, a)) @ vh)
        weights.append(a)
    return y, (q, k, v, weights, bounds, n_heads, draw) if keep else None


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


# ------------------------------------------------------- Numba: tiles of scores, in `_attention.py`


def forward_cpu(q, k, v, *, bounds, n_heads, draw=None, keep=True):
    q, k, v = (np.ascontiguousarray(x, np.float32) for x in (q, k, v))
    y, lse = empty_like(q), empty((len(q) if keep else 0, n_heads))
    _attention.forward(q, k, v, bounds, n_heads, _drawn(draw), y, lse)
    return y, (q, k, v, (y, lse), bounds, n_heads, draw) if keep else None


def backward_cpu(dy, cache):
    q, k, v, (y, lse), bounds, n_heads, draw = cache
    dy = np.ascontiguousarray(dy, np.float32)
    dq, dk, dv = empty_like(q), empty_like(k), empty_like(v)
    _attention.backward(dy, q, k, v, y, lse, bounds, n_heads, _drawn(draw), dq, dk, dv)
    return dq, dk, dv


def _drawn(draw):
    """What kernels need of a Draw; without one, nobody has a column."""
    if draw is None:
        nobody = np.zeros(0, np.int64)
        return (nobody, nobody, *np.zeros(4, np.uint32), np.float32(1))
    return (draw.sequence, draw.column, *words_of(draw), np.float32(1 / (1 - draw.p)))


# ------------------------------------------------------- CUDA: the same tiles, `_attention_cuda.py`


def forward_cuda(q, k, v, *, bounds, n_heads, draw=None, keep=True):
    bounds, drawn = to_device(bounds), _drawn_cuda(draw)
    y, lse = device_empty(q.shape), device_empty((len(q) if keep else 0, n_heads))
    _attention_cuda.forward(q, k, v, bounds, n_heads, drawn, y, lse)
    return y, (q, k, v, (y, lse), bounds, n_heads, drawn) if keep else None


def backward_cuda(dy, cache):
    q, k, v, (y, lse), bounds, n_heads, drawn = cache
    dq, dk, dv = (device_empty(q.shape) for _ in range(3))
    _attention_cuda.backward(dy, q, k, v, y, lse, bounds, n_heads, drawn, dq, dk, dv)
    return dq, dk, dv


def _drawn_cuda(draw):
    if draw is None:
        return None
    places = to_device(draw.sequence), to_device(draw.column)
    return (*places, *words_of(draw), np.float32(1 / (1 - draw.p)))
