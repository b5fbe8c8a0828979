"""Attention: each token's output is an average of the values of its sequence, weighted by affinity.

Rows are real tokens, one sequence after another; sequence b owns rows bounds[b] to bounds[b+1].
For each sequence, of T_q queries and T_k keys, and each of H heads, with q, k, v the head's
D = C/H channels:

    s = (q/√D)·kᵀ      (T_q,T_k)  scores
    a = softmax(s)     (T_q,T_k)  each query's weights over the keys
    y = dropout(a)·v   (T_q,D)    context

Backward, the same lines read upwards, writing m for dropout's mask (already divided by 1−p):

    ∂v = (m⊙a)ᵀ·∂y            ∂a = m⊙(∂y·vᵀ)
    ∂s = a⊙(∂a − Σ_keys ∂a⊙a)
    ∂k = ∂sᵀ·(q/√D)           ∂q = ∂s·k/√D

Padding has no row, so it needs no mask. Two options say which keys a query attends to:

    key_bounds   sequence b's keys and values are rows key_bounds[b] to key_bounds[b+1] of k and v:
                 another sequence (cross attention), or the full KV cache, whose newest tokens the
                 queries are. Without it, a sequence attends to itself and T_q = T_k.
    causal       query i attends to the keys up to i + (T_k − T_q), its own position where the
                 queries are the last T_q of T_k tokens; the scores of later keys are −∞ and their
                 weights 0

The specification keeps every weight, so its memory grows with T_q·T_k. The kernels, in
`kernels/flash_attention.py`, compute the weights in tiles, once for forward and again for backward,
and keep two numbers for each row and head instead. On a processor with AMX, forward without dropout
splits the products of long sequences as `linear.py` does (`kernels/amx_attention.py`).
Source: Vaswani et al., "Attention is all you need", 2017, eq. 1; queries are scaled before the
product, as in Hugging Face's DistilBERT.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minidistil.ops import softmax
from minidistil.ops.kernels import amx_attention, flash_attention, flash_attention_cuda
from minidistil.ops.kernels.amx_tile import HIGHEST
from minidistil.ops.kernels.flash_attention import HEAD_SHIFT, Attention
from minidistil.ops.kernels.head_views import merge_heads, split_heads
from minidistil.ops.kernels.philox import philox
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cuda import device_empty, to_device
from minidistil.ops.runtime.dropout_key import words_of
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    """q (N,C), k, v (M,C), bounds, key_bounds (B+1,)  ->  y (N,C), cache.

    key_bounds: None where each sequence attends to itself, and M = N. causal: needs T_k ≥ T_q in
    each sequence. A sequence may have no query, but needs a key. dropout_key: the DropoutKey of the
    queries' rows, for dropout on the weights, or None. keep=False: inference; the cache is None.
    """
    y, weights, pattern = np.empty_like(q), [], Pattern.of(bounds, key_bounds, causal)
    for rows, keys, hidden in pattern.sequences():
        qh, kh, vh = (split_heads(x, n_heads) for x in (q[rows], k[keys], v[keys]))  # (H,·,D)
        s = (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)  # (H,T_q,T_k)
        s[:, hidden] = -np.inf
        a, _ = softmax.forward(s)
        a[:, hidden] = 0  # as it is already, unless the row holds a NaN
        y[rows] = merge_heads((a * _mask(dropout_key, rows, a)) @ vh)
        weights.append(a)
    return y, (q, k, v, weights, pattern, n_heads, dropout_key) if keep else None


def backward(dy, cache):
    """dy (N,C), cache  ->  dq (N,C), dk, dv (M,C)."""
    q, k, v, weights, pattern, n_heads, dropout_key = cache
    dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    for (rows, keys, hidden), a in zip(pattern.sequences(), weights, strict=True):
        qh, kh, vh, dyh = (split_heads(x, n_heads) for x in (q[rows], k[keys], v[keys], dy[rows]))
        m = _mask(dropout_key, rows, a)  # (H,T_q,T_k)
        dv[keys] = merge_heads((a * m).swapaxes(1, 2) @ dyh)
        da = m * (dyh @ vh.swapaxes(1, 2))  # (H,T_q,T_k)
        (ds,) = softmax.backward(da, a)
        ds = ds / math.sqrt(qh.shape[2])
        ds[:, hidden] = 0
        dk[keys] = merge_heads(ds.swapaxes(1, 2) @ qh)
        dq[rows] = merge_heads(ds @ kh)
    return dq, dk, dv


class Pattern(NamedTuple):
    """Which keys each query attends to."""

    bounds: np.ndarray  # (B+1,) of the queries
    key_bounds: np.ndarray  # (B+1,)
    causal: bool

    @classmethod
    def of(cls, bounds, key_bounds, causal):
        """The pattern of `forward`'s arguments."""
        return cls(bounds, bounds if key_bounds is None else key_bounds, causal)

    def sequences(self):
        """Yields, for each sequence with a query: the rows of its queries, those of its keys, and
        which keys are hidden from which query, (T_q,T_k) bool."""
        for (first, last), (first_key, last_key) in zip(
            pairwise(self.bounds), pairwise(self.key_bounds), strict=True
        ):
            T_q, T_k = last - first, last_key - first_key
            if T_q:
                hidden = ~np.tri(T_q, T_k, T_k - T_q if self.causal else T_k, dtype=bool)
                yield slice(first, last), slice(first_key, last_key), hidden


def _mask(dropout_key, rows, a):
    """Dropout's m/(1−p) for the weights a (H,T_q,T_k) of one sequence; a one without dropout."""
    if dropout_key is None:
        return np.ones((), a.dtype)
    (H, T_q, T_k), words = a.shape, words_of(dropout_key)
    head, block = np.arange(H)[:, None, None], np.arange(-(-T_k // 4))[None, None, :]
    counter = np.broadcast_arrays(
        words.site,
        dropout_key.sequence[rows][None, :, None],
        dropout_key.column[rows][None, :, None],
        (head << HEAD_SHIFT) | block,
    )
    random = np.stack(philox(*counter, words.key0, words.key1), axis=-1).reshape(H, T_q, -1)
    return ((random[:, :, :T_k] >= words.threshold) / (1 - dropout_key.p)).astype(a.dtype)


# -------------- Numba: tiles of scores, `kernels/flash_attention.py`, `kernels/amx_attention.py`


def forward_cpu(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    q, k, v = (np.ascontiguousarray(x, np.float32) for x in (q, k, v))
    y, norms = empty_like(q), empty((len(q) if keep else 0, n_heads, 2))
    pattern, dropout = Pattern.of(bounds, key_bounds, causal), _dropout(dropout_key)
    inputs = Attention(q, k, v, pattern, n_heads, dropout)
    if dropout_key is None and amx.in_use():
        amx_attention.forward(HIGHEST, inputs, y, norms)
    else:
        flash_attention.forward(inputs, y, norms)
    return y, (q, k, v, (y, norms), pattern, n_heads, dropout) if keep else None


def backward_cpu(dy, cache):
    q, k, v, (y, norms), pattern, n_heads, dropout = cache
    dy = np.ascontiguousarray(dy, np.float32)
    dq, dk, dv = empty_like(q), empty_like(k), empty_like(v)
    inputs = Attention(q, k, v, pattern, n_heads, dropout)
    flash_attention.backward(dy, inputs, y, norms, (dq, dk, dv))
    return dq, dk, dv


def _dropout(dropout_key):
    """Dropout arguments for the kernels; empty arrays disable dropout."""
    if dropout_key is None:
        return no_dropout()
    return dropout_key.sequence, dropout_key.column, *words_of(dropout_key)


def no_dropout():
    """The same without dropout."""
    empty_rows = np.zeros(0, np.int64)
    return (empty_rows, empty_rows, *np.zeros(4, np.uint32), np.float32(1))


# ---------------------------------------- CUDA: the same tiles, `kernels/flash_attention_cuda.py`


def forward_cuda(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    bounds, dropout = to_device(bounds), _dropout_cuda(dropout_key)
    key_bounds = bounds if key_bounds is None else to_device(key_bounds)
    y, norms = device_empty(q.shape), device_empty((len(q) if keep else 0, n_heads, 2))
    pattern = Pattern.of(bounds, key_bounds, causal)
    flash_attention_cuda.forward(Attention(q, k, v, pattern, n_heads, dropout), y, norms)
    return y, (q, k, v, (y, norms), pattern, n_heads, dropout) if keep else None


def backward_cuda(dy, cache):
    q, k, v, (y, norms), pattern, n_heads, dropout = cache
    dq, dk, dv = (device_empty(x.shape) for x in (q, k, v))
    inputs = Attention(q, k, v, pattern, n_heads, dropout)
    flash_attention_cuda.backward(dy, inputs, y, norms, (dq, dk, dv))
    return dq, dk, dv


def _dropout_cuda(dropout_key):
    """Dropout arguments for the kernels, or None."""
    if dropout_key is None:
        return None
    sequence, column = to_device(dropout_key.sequence), to_device(dropout_key.column)
    return sequence, column, words_of(dropout_key)
