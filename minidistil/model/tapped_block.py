"""The blocks of `encoder` and `decoder` with taps: quantities between their ops are handed out,
and gradients can be sent into them.

The lines are those of the plain blocks, and the caches are theirs, too; `taps`, a dict, receives
the quantities of one layer, and `dtaps` adds gradients to theirs:

    q, k, v, context    attention's inputs and output        lin1         before the activation
    scores, probs       inside attention (backward only)     activation   after it
    out, lin2           before dropout                       output       of the block
    attention_sum       x + out                              output_sum   u + lin2
    attention_norm      LN of the attention sublayer

Taps cost what fusing saves, so that a model runs these blocks only in the layers that are tapped.
"""

from collections.abc import Mapping
from functools import partial

from minidistil.config.base import Architecture
from minidistil.model import decoder, encoder
from minidistil.model.context import (
    ATTENTION_DROPOUT,
    FFN_DROPOUT,
    OUTPUT_DROPOUT,
    Context,
    drop_backward,
    plus,
)
from minidistil.model.encoder import (
    FeedForwardCache,
    Params,
    SelfAttentionCache,
    linear_activation,
    linear_activation_backward,
    of,
)
from minidistil.model.taps import scores_backward

# ---------------------------------------------------------------- the inner halves


def self_attention(x, p: Params, context: Context, taps: dict):
    """As `encoder.self_attention`."""
    a, ops = context.architecture, context.ops
    q, q_cache = ops.linear.forward(x, *of(p, "q"))
    k, k_cache = ops.linear.forward(x, *of(p, "k"))
    v, v_cache = ops.linear.forward(x, *of(p, "v"))
    y, attention = ops.attention.forward(
        q, k, v, bounds=context.bounds, n_heads=a.H, causal=a.causal or a.cross_attends,
        dropout_key=context.dropout_key(a.attention_dropout, ATTENTION_DROPOUT), keep=context.keep,
    )  # fmt: skip
    o, out = ops.linear.forward(y, *of(p, "out"))
    taps.update(q=q, k=k, v=v, context=y, out=o)
    rate = a.dropout if a.drops_attention_output else 0.0
    o, dropped = context.drop(o, rate, OUTPUT_DROPOUT)
    return o, SelfAttentionCache(q_cache, k_cache, v_cache, attention, out, dropped)


def self_attention_backward(do, cache: SelfAttentionCache, ops, dtaps: dict, dx=None):
    """As `encoder.self_attention_backward`."""
    d = {}
    do = plus(drop_backward(do, cache.dropped, ops), dtaps.get("out"), ops)
    dy, d["out.weight"], d["out.bias"] = ops.linear.backward(do, cache.out)
    dy = plus(dy, dtaps.get("context"), ops)
    dq, dk, dv = ops.attention.backward(dy, cache.attention)
    dq_scores, dk_scores = scores_backward(dtaps, cache.attention, ops)
    dq, dk = plus(dq, dq_scores, ops), plus(dk, dk_scores, ops)
    for name, dz, linear in (("q", dq, cache.q), ("k", dk, cache.k), ("v", dv, cache.v)):
        dz = plus(dz, dtaps.get(name), ops)
        dx_part, d[f"{name}.weight"], d[f"{name}.bias"] = ops.linear.backward(dz, linear)
        dx = plus(dx, dx_part, ops)
    return dx, d


def feed_forward(x, p: Params, context: Context, taps: dict):
    """As `encoder.feed_forward`."""
    a, ops = context.architecture, context.ops
    h, _ = ops.linear.forward(x, *of(p, "lin1"))  # once more, as it is fused with the activation
    an_array = context._replace(keep=True)  # as inference may pack g
    g, lin1 = linear_activation(x, of(p, "lin1"), a.activation, an_array, for_linear=True)  # (N,F)
    f, lin2 = ops.linear.forward(g, *of(p, "lin2"))  # (N,C)
    taps.update(lin1=h, activation=g, lin2=f)
    f, dropped = context.drop(f, a.dropout if a.drops_ffn_output else 0.0, FFN_DROPOUT)
    return f, FeedForwardCache(lin1, lin2, dropped, a.activation)


def feed_forward_backward(df, cache: FeedForwardCache, ops, dtaps: dict):
    """As `encoder.feed_forward_backward`."""
    d = {}
    df = plus(drop_backward(df, cache.dropped, ops), dtaps.get("lin2"), ops)
    dg, d["lin2.weight"], d["lin2.bias"] = ops.linear.backward(df, cache.lin2)
    dg = plus(dg, dtaps.get("activation"), ops)
    dlin1 = linear_activation_backward(dg, cache.lin1, cache.activation, ops)
    if "lin1" in dtaps:  # enters behind the activation
        linear, _ = cache.lin1
        for whole, part in zip(dlin1, ops.linear.backward(dtaps["lin1"], linear), strict=True):
            ops.place.accumulate(whole, part)
    dx, d["lin1.weight"], d["lin1.bias"] = dlin1
    return dx, d


# ---------------------------------------------------------------- the encoder's block


def encoder_block(x, p: Params, context: Context, taps: dict):
    """As `encoder.block`."""
    ops, how = context.ops, {"eps": context.architecture.eps, "keep": context.keep}
    o, attention = self_attention(x, p, context, taps)
    u, attention_norm = ops.add_layernorm.forward(x, o, *of(p, "attention_norm"), **how)
    f, ffn = feed_forward(u, p, context, taps)
    y, output_norm = ops.add_layernorm.forward(u, f, *of(p, "output_norm"), **how)
    s, _ = ops.add.forward(x, o)  # once more, as both sums are fused with LayerNorm
    r, _ = ops.add.forward(u, f)
    taps.update(attention_sum=s, attention_norm=u, output_sum=r, output=y)
    return y, ((attention, attention_norm), (ffn, output_norm))


def encoder_block_backward(dy, cache: tuple, ops, dtaps: dict):
    """As `encoder.block_backward`."""
    (attention, attention_norm), (ffn, output_norm) = cache
    dy = plus(dy, dtaps.get("output"), ops)
    dr, _, *d_output_norm = ops.add_layernorm.backward(dy, output_norm)
    dr = plus(dr, dtaps.get("output_sum"), ops)
    du, d = feed_forward_backward(dr, ffn, ops, dtaps)
    du = plus(plus(dr, du, ops), dtaps.get("attention_norm"), ops)
    ds, _, *d_attention_norm = ops.add_layernorm.backward(du, attention_norm)
    ds = plus(ds, dtaps.get("attention_sum"), ops)
    dx, d_attention = self_attention_backward(ds, attention, ops, dtaps, ds)
    d["output_norm.weight"], d["output_norm.bias"] = d_output_norm
    d["attention_norm.weight"], d["attention_norm.bias"] = d_attention_norm
    return dx, d | d_attention


# ---------------------------------------------------------------- GPT-2's block


def decoder_block(x, p: Params, context: Context, taps: dict):
    """As `decoder.block`."""
    ops, eps, p = context.ops, context.architecture.eps, decoder.split_qkv(p)
    n, attention_norm = ops.layernorm.forward(x, *of(p, "attention_norm"), eps=eps)
    o, attention = self_attention(n, p, context, taps)
    u, _ = ops.add.forward(x, o)
    m, ffn_norm = ops.layernorm.forward(u, *of(p, "ffn_norm"), eps=eps)
    f, ffn = feed_forward(m, p, context, taps)
    y, _ = ops.add.forward(u, f)
    taps.update(attention_sum=u, attention_norm=n, output_sum=y, output=y)
    return y, ((attention_norm, attention), (ffn_norm, ffn))


def decoder_block_backward(dy, cache: tuple, ops, dtaps: dict):
    """As `decoder.block_backward`."""
    (attention_norm, attention), (ffn_norm, ffn) = cache
    dy = plus(plus(dy, dtaps.get("output"), ops), dtaps.get("output_sum"), ops)
    dm, d = feed_forward_backward(dy, ffn, ops, dtaps)
    du, d["ffn_norm.weight"], d["ffn_norm.bias"] = ops.layernorm.backward(dm, ffn_norm)
    du = plus(plus(dy, du, ops), dtaps.get("attention_sum"), ops)
    dn, d_attention = self_attention_backward(
        du, attention, ops, dtaps, dtaps.get("attention_norm")
    )
    dx, *dnorm = ops.layernorm.backward(dn, attention_norm)
    d["attention_norm.weight"], d["attention_norm.bias"] = dnorm
    return plus(du, dx, ops), decoder.join_qkv(d | d_attention, ops)


# ---------------------------------------------------------------- L blocks


def blocks(architecture: Architecture, taps: Mapping[str, dict]) -> list:
    """L functions for `encoder.forward` or `decoder.forward`.

    taps: {"layer.0": {}, …}, a dict to fill for each layer that is tapped.
    """
    plain, tapped = encoder.block, encoder_block
    if architecture.causal:
        plain, tapped = decoder.block, decoder_block
    names = [f"layer.{i}" for i in range(architecture.L)]
    return [partial(tapped, taps=taps[n]) if n in taps else plain for n in names]


def blocks_backward(architecture: Architecture, dtaps: Mapping[str, dict]) -> list:
    """L functions for `encoder.backward` or `decoder.backward`.

    dtaps: {"layer.0": {"q": (N,C), …}, …}.
    """
    plain, tapped = encoder.block_backward, encoder_block_backward
    if architecture.causal:
        plain, tapped = decoder.block_backward, decoder_block_backward
    names = [f"layer.{i}" for i in range(architecture.L)]
    return [partial(tapped, dtaps=dtaps[n]) if n in dtaps else plain for n in names]
