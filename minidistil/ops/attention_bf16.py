"""Attention with the operands of both products in bfloat16.

    s = bf16(q)·bf16(k)ᵀ/√D        m = max s,  e = exp(s − m),  l = Σ_keys e
    y = bf16(e)·bf16(v) / l

q, k, v and e are rounded to bfloat16 (`kernels/number_formats.py`), nearest, ties to even. All else
is float32: sums, scores, exp, and l, which sums the e before they are rounded. A weight of softmax
would need a division before it can be rounded; e ≤ 1 has the same 8 bits without.

The gradient is that of `attention.py` at the rounded q, k and v, in float32: rounding counts as the
identity, as in `linear_bf16.py`.

Rounding serves the processor's matrix unit (AMX). Without one, and with dropout, the products run
in float32 and nothing is rounded: `attention.py`.
"""

import math

import numpy as np

from minidistil.ops import attention
from minidistil.ops.attention import Pattern, no_dropout
from minidistil.ops.kernels import amx_attention
from minidistil.ops.kernels.amx_rounding import rounded
from minidistil.ops.kernels.amx_tile import BF16
from minidistil.ops.kernels.flash_attention import Attention
from minidistil.ops.kernels.head_views import merge_heads, split_heads
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    """q (N,C), k, v (M,C), bounds, key_bounds (B+1,)  ->  y (N,C), the cache of attention.

    The keyword arguments are those of `attention.forward`.
    """
    if dropout_key is not None:
        return attention.forward(
            q, k, v, bounds=bounds, n_heads=n_heads, key_bounds=key_bounds, causal=causal,
            dropout_key=dropout_key, keep=keep,
        )  # fmt: skip
    y, weights, pattern = np.empty_like(q), [], Pattern.of(bounds, key_bounds, causal)
    q, k, v = (round_bf16(x) for x in (q, k, v))
    for rows, keys, hidden in pattern.sequences():
        qh, kh, vh = (split_heads(x, n_heads) for x in (q[rows], k[keys], v[keys]))  # (H,·,D)
        s = qh @ kh.swapaxes(1, 2) / math.sqrt(qh.shape[2])  # (H,T_q,T_k)
        s[:, hidden] = -np.inf
        e = np.exp(s - s.max(axis=2, keepdims=True))
        e[:, hidden] = 0  # as it is already, unless the row holds a NaN
        l = e.sum(axis=2, keepdims=True)
        y[rows] = merge_heads(round_bf16(e) @ vh / l)
        weights.append(e / l)
    return y, (q, k, v, weights, pattern, n_heads, None) if keep else None


backward = attention.backward


# ------------------------------------------------------- Numba: `kernels/amx_attention.py`


def forward_cpu(
    q, k, v, *, bounds, n_heads, key_bounds=None, causal=False, dropout_key=None, keep=True
):
    if dropout_key is not None or not amx.in_use():
        return attention.forward_cpu(
            q, k, v, bounds=bounds, n_heads=n_heads, key_bounds=key_bounds, causal=causal,
            dropout_key=dropout_key, keep=keep,
        )  # fmt: skip
    q, k, v = (np.ascontiguousarray(x, np.float32) for x in (q, k, v))
    y, norms = empty_like(q), empty((len(q) if keep else 0, n_heads, 2))
    pattern, dropout = Pattern.of(bounds, key_bounds, causal), no_dropout()
    amx_attention.forward(BF16, Attention(q, k, v, pattern, n_heads, dropout), y, norms)
    if not keep:
        return y, None
    return y, (rounded(q), rounded(k), rounded(v), (y, norms), pattern, n_heads, dropout)


backward_cpu = attention.backward_cpu
