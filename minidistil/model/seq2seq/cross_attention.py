"""Cross attention: the words of a decoder read another text.

    w = LN(u + out(attention(q(u), k(m), v(m))))        m: the other text's last hidden states

Queries come from the decoder's rows u (N,C), keys and values from the memory m (M,C); a sequence's
words look at all words of the sequence that they translate or sum up. Otherwise it is the attention
of any block, with the residual sum and the LayerNorm behind it.
Source: Vaswani et al., "Attention is all you need", 2017, §3.2.3; dropout stands where Hugging
Face's BERT has it.
"""

from typing import NamedTuple

from minidistil.model.rows import drop, drop_backward
from minidistil.model.taps import plus

SITES = 2  # of dropout: on the weights, after `out`


class Memory(NamedTuple):
    """What is read."""

    x: object  # (M,C)
    bounds: object  # (B+1,) sequence b is rows bounds[b] to bounds[b+1] of x
    queries: object  # (B+1,) and is read by these rows of the decoder
    known: tuple | None = None  # its keys and values for one block, where they are known already


class Cross(NamedTuple):
    """What is kept for backward, in the order of the forward."""

    q: tuple
    k: tuple
    v: tuple
    attention: tuple
    out: tuple
    dropped: tuple | None
    norm: tuple


def keys_and_values(x, p, ops):
    """x (M,C)  ->  k, v (M,C), the caches of both.  p: the parameters of one block."""
    k, k_cache = ops.linear.forward(x, p["cross_k.weight"], p["cross_k.bias"])
    v, v_cache = ops.linear.forward(x, p["cross_v.weight"], p["cross_v.bias"])
    return k, v, k_cache, v_cache


def attend(u, memory, p, a, dropout_state, site, ops, keep=True):
    """u (N,C), memory  ->  w (N,C), cache.  p: the parameters of one block."""
    q, q_cache = ops.linear.forward(u, p["cross_q.weight"], p["cross_q.bias"])
    if memory.known is None:
        k, v, k_cache, v_cache = keys_and_values(memory.x, p, ops)
    else:
        (k, v), k_cache, v_cache = memory.known, None, None
    dropout_key = (
        dropout_state.dropout_key(site, a.attention_dropout)
        if dropout_state and a.attention_dropout
        else None
    )
    context, attention = ops.attention.forward(
        q,
        k,
        v,
        bounds=memory.queries,
        key_bounds=memory.bounds,
        n_heads=a.H,
        dropout_key=dropout_key,
        keep=keep,
    )
    o, out = ops.linear.forward(context, p["cross_out.weight"], p["cross_out.bias"])
    od, dropped = drop(o, a.dropout, site + 1, dropout_state, ops)
    w, norm = ops.add_layernorm.forward(
        u, od, p["cross_norm.weight"], p["cross_norm.bias"], eps=a.eps, keep=keep
    )
    return w, Cross(q_cache, k_cache, v_cache, attention, out, dropped, norm)


def attend_backward(dw, cache, ops):
    """dw (N,C), cache  ->  du (N,C), dmemory (M,C), gradients by role."""
    d = {}
    du, _, d["cross_norm.weight"], d["cross_norm.bias"] = ops.add_layernorm.backward(dw, cache.norm)
    do = drop_backward(du, cache.dropped, ops)  # the sum's gradient is that of both its terms
    dcontext, d["cross_out.weight"], d["cross_out.bias"] = ops.linear.backward(do, cache.out)
    dq, dk, dv = ops.attention.backward(dcontext, cache.attention)
    dm_v, d["cross_v.weight"], d["cross_v.bias"] = ops.linear.backward(dv, cache.v)
    dm_k, d["cross_k.weight"], d["cross_k.bias"] = ops.linear.backward(dk, cache.k)
    du_q, d["cross_q.weight"], d["cross_q.bias"] = ops.linear.backward(dq, cache.q)
    return plus(du, du_q, ops), plus(dm_k, dm_v, ops), d
