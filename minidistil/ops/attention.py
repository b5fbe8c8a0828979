"""Attention: every token collects the values of all tokens of its sequence, weighted by affinity.

Rows are real tokens, one sequence after another; sequence b owns rows bounds[b] to bounds[b+1].
For each sequence (t rows) and each head h, with q, k, v the head's D = C/H channels:

    s = (q/√D)·kᵀ      (t,u)  scores; u = t where a sequence meets itself
    a = softmax(s)            each query's weights over the keys
    y = dropout(a)·v   (t,D)  context

Backward, the same lines read upwards, writing m for dropout's mask (already divided by 1−p):

    ∂v = (m⊙a)ᵀ·∂y            ∂a = m⊙(∂y·vᵀ)
    ∂s = a⊙(∂a − Σ_keys ∂a⊙a)
    ∂k = ∂sᵀ·(q/√D)           ∂q = ∂s·k/√D

Padding has no row, so it needs no mask. Two switches say which keys a query meets:

    key_bounds   sequence b's keys and values are rows key_bounds[b] to key_bounds[b+1] of k and v:
                 another text that it reads (cross attention), or all that was said so far, of
                 which the queries are the newest words (a cache)
    causal       no look ahead: query i of t meets the keys up to i + (u − t), its own place where
                 the queries are the last t of u; the other scores are −∞ and their weights 0

The specification keeps every weight, so its memory grows with t². The kernels, in
`kernels/flash_attention.py`, go through the weights in tiles, twice, and keep two numbers a row and
head instead. Source: Vaswani et al., "Attention is all you need", 2017, eq. 1; queries are scaled
before the product, as in Hugging Face's DistilBERT.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minidistil.ops import dropout, softmax
from minidistil.ops.dropout import words_of
from minidistil.ops.kernels import flash_attention, flash_attention_cuda
from minidistil.ops.kernels.flash_attention import HEAD_SHIFT
from minidistil.ops.kernels.head_views import merge_heads, split_heads
from minidistil.ops.runtime.cuda import device_empty, to_device
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    """q (N,C), k, v (M,C), bounds, key_bounds (B+1,)  ->  y (N,C), cache.

    key_bounds: None where M = N and a sequence meets itself. causal: needs u ≥ t in each sequence.
    A sequence may have no query, but not no key. draw: dropout on the weights, for the queries'
    rows, or None. keep=False: no cache, nothing is written but y.
    """
    y, weights, meeting = np.empty_like(q), [], Meeting.of(bounds, key_bounds, causal)
    for rows, keys, hidden in meeting.sequences():
        qh, kh, vh = (split_heads(x, n_heads) for x in (q[rows], k[keys], v[keys]))  # (H,·,D)
        s = (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)  # (H,t,u)
        s[:, hidden] = -np.inf
        a, _ = softmax.forward(s.reshape(-1, s.shape[2]))
        a = a.reshape(s.shape)
        a[:, hidden] = 0  # it is already, unless the row holds a NaN
        y[rows] = merge_heads((a * _mask(dropout_key, rows, n_heads, a)) @ vh)
        weights.append(a)
    return y, (q, k, v, weights, meeting, n_heads, dropout_key) if keep else None


def backward(dy, cache):
    """dy (N,C), cache  ->  dq (N,C), dk, dv (M,C)."""
    q, k, v, weights, meeting, n_heads, dropout_key = cache
    dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    for (rows, keys, hidden), a in zip(meeting.sequences(), weights, strict=True):
        qh, kh, vh, dyh = (split_heads(x, n_heads) for x in (q[rows], k[keys], v[keys], dy[rows]))
        m = _mask(dropout_key, rows, n_heads, a)  # (H,t,u)
        dv[keys] = merge_heads((a * m).swapaxes(1, 2) @ dyh)
        da = m * (dyh @ vh.swapaxes(1, 2))  # (H,t,u)
        (ds,) = softmax.backward(da.reshape(-1, a.shape[2]), a.reshape(-1, a.shape[2]))
        ds = ds.reshape(a.shape) / math.sqrt(qh.shape[2])
        ds[:, hidden] = 0
        dk[keys] = merge_heads(ds.swapaxes(1, 2) @ qh)
        dq[rows] = merge_heads(ds @ kh)
    return dq, dk, dv


class Meeting(NamedTuple):
    """Which queries meet which keys."""

    bounds: np.ndarray  # (B+1,) of the queries
    key_bounds: np.ndarray  # (B+1,)
    causal: bool

    @classmethod
    def of(cls, bounds, key_bounds, causal):
        return cls(bounds, bounds if key_bounds is None else key_bounds, causal)

    def sequences(self):
        """Of each with a query: the rows of its queries and of its keys; which are hidden (t,u)."""
        for (first, last), (from_, to) in zip(
            pairwise(self.bounds), pairwise(self.key_bounds), strict=True
        ):
            t, u = last - first, to - from_
            if t:
                hidden = ~np.tri(t, u, u - t if self.causal else u, dtype=bool)
                yield slice(first, last), slice(from_, to), hidden


def _mask(dropout_key, rows, n_heads, a):
    """Dropout's m/(1−p) for the weights a (H,t,u) of one sequence; ones when nothing is drawn."""
    if dropout_key is None:
        return np.ones((), a.dtype)
    t, u = a.shape[1:]
    key0, key1, site, threshold = words_of(dropout_key)
    head, block = np.arange(n_heads)[:, None, None], np.arange(-(-u // 4))[None, None, :]
    counter = np.broadcast_arrays(
        site,
        dropout_key.sequence[rows][None, :, None],
        dropout_key.column[rows][None, :, None],
        (head << HEAD_SHIFT) | block,
    )
    words = np.stack(dropout.philox(*counter, key0, key1), axis=-1).reshape(n_heads, t, -1)
    return ((words[:, :, :u] >= threshold) / (1 - dropout_key.p)).astype(a.dtype)


# -------------------------------------------- Numba: tiles of scores, `kernels/flash_attention.py`


def forward_cpu(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    q, k, v = (np.ascontiguousarray(x, np.float32) for x in (q, k, v))
    y, norms = empty_like(q), empty((len(q) if keep else 0, n_heads, 2))
    meeting = Meeting.of(bounds, key_bounds, causal)
    flash_attention.forward(q, k, v, meeting, n_heads, _drawn(dropout_key), y, norms)
    return y, (q, k, v, (y, norms), meeting, n_heads, dropout_key) if keep else None


def backward_cpu(dy, cache):
    q, k, v, (y, norms), meeting, n_heads, dropout_key = cache
    dy = np.ascontiguousarray(dy, np.float32)
    dq, dk, dv = empty_like(q), empty_like(k), empty_like(v)
    flash_attention.backward(
        dy, q, k, v, y, norms, meeting, n_heads, _drawn(dropout_key), dq, dk, dv
    )
    return dq, dk, dv


def _drawn(dropout_key):
    """What kernels need of a Draw; without one, nobody has a column."""
    if dropout_key is None:
        nobody = np.zeros(0, np.int64)
        return (nobody, nobody, *np.zeros(4, np.uint32), np.float32(1))
    return (
        dropout_key.sequence,
        dropout_key.column,
        *words_of(dropout_key),
        np.float32(1 / (1 - dropout_key.p)),
    )


# ---------------------------------------- CUDA: the same tiles, `kernels/flash_attention_cuda.py`


def forward_cuda(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    bounds, drawn = to_device(bounds), _drawn_cuda(dropout_key)
    key_bounds = bounds if key_bounds is None else to_device(key_bounds)
    y, norms = device_empty(q.shape), device_empty((len(q) if keep else 0, n_heads, 2))
    meeting = Meeting.of(bounds, key_bounds, causal)
    flash_attention_cuda.forward(q, k, v, meeting, n_heads, drawn, y, norms)
    return y, (q, k, v, (y, norms), meeting, n_heads, drawn) if keep else None


def backward_cuda(dy, cache):
    q, k, v, (y, norms), meeting, n_heads, drawn = cache
    dq, dk, dv = (device_empty(x.shape) for x in (q, k, v))
    flash_attention_cuda.backward(dy, q, k, v, y, norms, meeting, n_heads, drawn, dq, dk, dv)
    return dq, dk, dv


def _drawn_cuda(dropout_key):
    if dropout_key is None:
        return None
    places = to_device(dropout_key.sequence), to_device(dropout_key.column)
    return (*places, *words_of(dropout_key), np.float32(1 / (1 - dropout_key.p)))
