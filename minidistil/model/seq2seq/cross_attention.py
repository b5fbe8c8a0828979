"""The block of a decoder that attends to an encoder's output: the encoder's two sublayers, with
cross attention between them.

    u = LN(x + self_attention(x))                              causal
    w = LN(u + out(attention(q(u), k(m), v(m))))               cross_sublayer
    y = LN(w + feed_forward(w))

Queries come from the decoder's rows u (N,C), keys and values from the memory m (M,C), the encoder's
last hidden states: each token of a target attends to all tokens of its source.
Source: Vaswani et al., "Attention is all you need", 2017, §3.2.3; dropout stands where Hugging
Face's BERT has it.
"""

from typing import Any, NamedTuple

import numpy as np

from minidistil.model.context import (
    CROSS_ATTENTION_DROPOUT,
    CROSS_OUTPUT_DROPOUT,
    Context,
    drop_backward,
    plus,
)
from minidistil.model.encoder import (
    Params,
    attention_sublayer,
    attention_sublayer_backward,
    ffn_sublayer,
    ffn_sublayer_backward,
    of,
)


class Memory(NamedTuple):
    """The encoder's output, and which rows of the decoder attend to which of its rows."""

    x: Any  # (M,C)
    bounds: np.ndarray  # (B+1,) sequence b is rows bounds[b] to bounds[b+1] of x
    queries: np.ndarray  # (B+1,) the rows of the decoder that attend to it


class CrossAttention(NamedTuple):
    """The op caches of `cross_sublayer`, in the order of its forward."""

    q: tuple
    k: tuple
    v: tuple
    attention: tuple
    out: tuple
    dropped: Any
    norm: tuple


def keys_and_values(m, p: Params, ops):
    """m (M,C)  ->  k, v (M,C), the caches of both.  p: the parameters of one block."""
    k, k_cache = ops.linear.forward(m, *of(p, "cross_k"))
    v, v_cache = ops.linear.forward(m, *of(p, "cross_v"))
    return k, v, k_cache, v_cache


def cross_sublayer(u, p: Params, context: Context, memory: Memory):
    """u (N,C), memory m (M,C)  ->  w (N,C) = LN(u + out(attention(q(u), k(m), v(m)))), cache."""
    a, ops = context.architecture, context.ops
    q, q_cache = ops.linear.forward(u, *of(p, "cross_q"))
    k, v, k_cache, v_cache = keys_and_values(memory.x, p, ops)
    z, attention = ops.attention.forward(
        q, k, v, bounds=memory.queries, key_bounds=memory.bounds, n_heads=a.H, keep=context.keep,
        dropout_key=context.dropout_key(a.attention_dropout, CROSS_ATTENTION_DROPOUT),
    )  # fmt: skip
    o, out = ops.linear.forward(z, *of(p, "cross_out"))
    o, dropped = context.drop(o, a.dropout, CROSS_OUTPUT_DROPOUT)
    w, norm = ops.add_layernorm.forward(u, o, *of(p, "cross_norm"), eps=a.eps, keep=context.keep)
    return w, CrossAttention(q_cache, k_cache, v_cache, attention, out, dropped, norm)


def cross_sublayer_backward(dw, cache: CrossAttention, ops):
    """dw (N,C)  ->  du (N,C), dm (M,C), gradients."""
    d = {}
    du, do, d["cross_norm.weight"], d["cross_norm.bias"] = ops.add_layernorm.backward(
        dw, cache.norm
    )
    do = drop_backward(do, cache.dropped, ops)
    dz, d["cross_out.weight"], d["cross_out.bias"] = ops.linear.backward(do, cache.out)
    dq, dk, dv = ops.attention.backward(dz, cache.attention)
    dm_v, d["cross_v.weight"], d["cross_v.bias"] = ops.linear.backward(dv, cache.v)
    dm_k, d["cross_k.weight"], d["cross_k.bias"] = ops.linear.backward(dk, cache.k)
    du_q, d["cross_q.weight"], d["cross_q.bias"] = ops.linear.backward(dq, cache.q)
    return plus(du, du_q, ops), plus(dm_k, dm_v, ops), d


def cross_block(x, p: Params, context: Context, memory: Memory):
    """x (N,C), memory (M,C)  ->  y (N,C), cache."""
    u, attention = attention_sublayer(x, p, context)
    w, cross = cross_sublayer(u, p, context, memory)
    y, ffn = ffn_sublayer(w, p, context)
    return y, (attention, cross, ffn)


def cross_block_backward(dy, cache: tuple, ops):
    """dy (N,C)  ->  dx (N,C), dm (M,C), gradients."""
    attention, cross, ffn = cache
    dw, d_ffn = ffn_sublayer_backward(dy, ffn, ops)
    du, dm, d_cross = cross_sublayer_backward(dw, cross, ops)
    dx, d_attention = attention_sublayer_backward(du, attention, ops)
    return dx, dm, d_ffn | d_cross | d_attention
