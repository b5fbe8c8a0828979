"""The encoder of BERT, RoBERTa, ALBERT and DistilBERT: embeddings, then L blocks. A block has two
sublayers, and a sublayer ends with a residual sum and a LayerNorm.

    x₀ = LN(word[id] + position[position] (+ type[type]))
    u  = LN(x + out(attention(q(x), k(x), v(x))))             attention_sublayer
    y  = LN(u + lin2(gelu(lin1(u))))                          ffn_sublayer

Each block turns x into y. `distilbert.py` computes the same on padded arrays (B,T,C); here a
batch is N rows, one for each real token, and `context.bounds` says which rows are one sequence.
Parameters are {name: array}; p holds those of the layer at hand, without their common prefix.
Each forward returns (y, cache). The backward beneath it applies the same operations in reverse
order: it takes (dy, cache, ops) and returns dx and {name: gradient} under the names of p.

The families differ in token types (BERT, RoBERTa, ALBERT), in dropout behind `out` (not
DistilBERT) and behind `lin2` (not ALBERT), in LayerNorm's ε and in how positions are counted
(`rows`). ALBERT embeds in E channels, which `mapping` maps onto C, and several of its layers share
the parameters of one block, whose gradient is the sum over these layers.
Sources: Devlin et al., "BERT", 2018, §3; Sanh et al., "DistilBERT", 2019, §3;
Liu et al., "RoBERTa", 2019; Lan et al., "ALBERT", 2019, §3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidistil.model.context import (
    ATTENTION_DROPOUT,
    EMBEDDING_DROPOUT,
    FFN_DROPOUT,
    OUTPUT_DROPOUT,
    Context,
    drop_backward,
    plus,
)
from minidistil.model.frozen_parts import frozen_parts
from minidistil.model.handing_over import hand_over
from minidistil.model.rows import Rows

Params = Mapping[str, np.ndarray]
Blocks = Sequence[Callable] | None


def scope(params: Params, prefix: str) -> dict:
    """The parameters under `prefix.`, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in params.items() if k.startswith(prefix + ".")}


def of(p: Params, name: str) -> tuple:
    """The weight and the bias of a linear layer or of a LayerNorm."""
    return p[f"{name}.weight"], p[f"{name}.bias"]


# ---------------------------------------------------------------- attention


class SelfAttentionCache(NamedTuple):
    """The op caches of `self_attention`, in the order of its forward."""

    q: tuple
    k: tuple
    v: tuple
    attention: tuple
    out: tuple
    dropped: Any


def self_attention(x, p: Params, context: Context):
    """x (N,C)  ->  o (N,C) = dropout(out(attention(q(x), k(x), v(x)))), cache."""
    a, ops = context.architecture, context.ops
    q, q_cache = ops.linear.forward(x, *of(p, "q"))
    k, k_cache = ops.linear.forward(x, *of(p, "k"))
    v, v_cache = ops.linear.forward(x, *of(p, "v"))
    y, attention = ops.attention.forward(
        q, k, v, bounds=context.bounds, n_heads=a.H, causal=a.causal or a.cross_attends,
        dropout_key=context.dropout_key(a.attention_dropout, ATTENTION_DROPOUT), keep=context.keep,
    )  # fmt: skip
    o, out = ops.linear.forward(y, *of(p, "out"))
    rate = a.dropout if a.drops_attention_output else 0.0
    o, dropped = context.drop(o, rate, OUTPUT_DROPOUT)
    return o, SelfAttentionCache(q_cache, k_cache, v_cache, attention, out, dropped)


def self_attention_backward(do, cache: SelfAttentionCache, ops, dx=None):
    """do (N,C)  ->  dx (N,C), gradients.  dx: that of another reader of x, which is added."""
    d = {}
    do = drop_backward(do, cache.dropped, ops)
    dy, d["out.weight"], d["out.bias"] = ops.linear.backward(do, cache.out)
    dq, dk, dv = ops.attention.backward(dy, cache.attention)
    for name, dz, linear in (("q", dq, cache.q), ("k", dk, cache.k), ("v", dv, cache.v)):
        dx_part, d[f"{name}.weight"], d[f"{name}.bias"] = ops.linear.backward(dz, linear)
        dx = plus(dx, dx_part, ops)
    return dx, d


def attention_sublayer(x, p: Params, context: Context):
    """x (N,C)  ->  u (N,C) = LN(x + self_attention(x)), cache."""
    o, attention = self_attention(x, p, context)
    u, norm = context.ops.add_layernorm.forward(
        x, o, *of(p, "attention_norm"), eps=context.architecture.eps, keep=context.keep
    )
    return u, (attention, norm)


def attention_sublayer_backward(du, cache: tuple, ops):
    """du (N,C)  ->  dx (N,C), gradients."""
    attention, norm = cache
    dx, do, *dnorm = ops.add_layernorm.backward(du, norm)
    dx, d = self_attention_backward(do, attention, ops, dx)  # x enters the sum and the attention
    d["attention_norm.weight"], d["attention_norm.bias"] = dnorm
    return dx, d


# ---------------------------------------------------------------- feed-forward

GELU_FORM = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def linear_activation(x, layer: tuple, activation: str, context: Context, for_linear=False):
    """x (N,I), layer: weight (O,I), bias (O,)  ->  activation(linear(x)) (N,O), cache.

    activation: as in config.json. for_linear: the result goes to a linear layer alone.
    """
    ops = context.ops
    if activation == "relu":
        h, linear = ops.linear.forward(x, *layer)
        y, relu = ops.relu.forward(h)
        return y, (linear, relu)
    form = GELU_FORM[activation]
    return ops.linear_gelu.forward(
        x, *layer, approximate=form, keep=context.keep, for_linear=for_linear
    )


def linear_activation_backward(dy, cache: tuple, activation: str, ops):
    """dy (N,O)  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    if activation == "relu":
        linear, relu = cache
        (dh,) = ops.relu.backward(dy, relu)
        return ops.linear.backward(dh, linear)
    return ops.linear_gelu.backward(dy, cache)


class FeedForwardCache(NamedTuple):
    """The op caches of `feed_forward`, in the order of its forward."""

    lin1: tuple
    lin2: tuple
    dropped: Any
    activation: str


def feed_forward(x, p: Params, context: Context):
    """x (N,C)  ->  f (N,C) = dropout(lin2(gelu(lin1(x)))), cache."""
    a = context.architecture
    g, lin1 = linear_activation(x, of(p, "lin1"), a.activation, context, for_linear=True)  # (N,F)
    f, lin2 = context.ops.linear.forward(g, *of(p, "lin2"))  # (N,C)
    f, dropped = context.drop(f, a.dropout if a.drops_ffn_output else 0.0, FFN_DROPOUT)
    return f, FeedForwardCache(lin1, lin2, dropped, a.activation)


def feed_forward_backward(df, cache: FeedForwardCache, ops):
    """df (N,C)  ->  dx (N,C), gradients."""
    d = {}
    df = drop_backward(df, cache.dropped, ops)
    dg, d["lin2.weight"], d["lin2.bias"] = ops.linear.backward(df, cache.lin2)
    dx, d["lin1.weight"], d["lin1.bias"] = linear_activation_backward(
        dg, cache.lin1, cache.activation, ops
    )
    return dx, d


def ffn_sublayer(u, p: Params, context: Context):
    """u (N,C)  ->  y (N,C) = LN(u + feed_forward(u)), cache."""
    f, ffn = feed_forward(u, p, context)
    y, norm = context.ops.add_layernorm.forward(
        u, f, *of(p, "output_norm"), eps=context.architecture.eps, keep=context.keep
    )
    return y, (ffn, norm)


def ffn_sublayer_backward(dy, cache: tuple, ops):
    """dy (N,C)  ->  du (N,C), gradients."""
    ffn, norm = cache
    du, df, *dnorm = ops.add_layernorm.backward(dy, norm)
    du_ffn, d = feed_forward_backward(df, ffn, ops)
    d["output_norm.weight"], d["output_norm.bias"] = dnorm
    return plus(du, du_ffn, ops), d  # u enters the sum and the feed-forward


# ---------------------------------------------------------------- one block


def block(x, p: Params, context: Context):
    """x (N,C)  ->  y (N,C), cache."""
    u, attention = attention_sublayer(x, p, context)
    y, ffn = ffn_sublayer(u, p, context)
    return y, (attention, ffn)


def block_backward(dy, cache: tuple, ops):
    """dy (N,C)  ->  dx (N,C), gradients."""
    attention, ffn = cache
    du, d_ffn = ffn_sublayer_backward(dy, ffn, ops)
    dx, d_attention = attention_sublayer_backward(du, attention, ops)
    return dx, d_ffn | d_attention


# ---------------------------------------------------------------- L blocks


class StackCache(NamedTuple):
    """What L blocks keep for their backward."""

    caches: list  # L of them; empty in inference
    group_of: tuple  # block i uses the parameters of group group_of[i]: i itself but in ALBERT


def stack(blocks: Sequence[Callable], x, p: Params, context: Context):
    """x₀ (N,C)  ->  hidden states [x₀, …, x_L], cache.  blocks: L functions such as `block`."""
    hidden, caches, group_of = [x], [], context.architecture.blocks
    for i, group in enumerate(group_of):
        x, cache = blocks[i](x, scope(p, f"layer.{group}"), context.of_block(i))
        hidden.append(x)
        if context.keep:
            caches.append(cache)
        del cache  # in inference its memory is free before the next block begins
    return hidden, StackCache(caches, group_of)


def stack_backward(blocks: Sequence[Callable], dhidden, cache: StackCache, ops, release=False):
    """dhidden: L+1 gradients (N,C), the last an array, the others or None  ->  dx₀, gradients.

    blocks: L functions such as `block_backward`. release: see `backward`. Where the bottom parts
    are frozen, dx₀ is None, see `frozen_parts`.
    """
    d, dx, frozen = {}, dhidden[-1], frozen_parts()
    for i in reversed(range(len(cache.caches))):
        group = cache.group_of[i]
        if group + 1 < frozen:
            break
        dx, d_block = blocks[i](dx, cache.caches[i], ops)
        if release:
            cache.caches[i] = None
        d_block = {f"layer.{group}.{name}": grad for name, grad in d_block.items()}
        for name, grad in d_block.items():
            if name in d:  # a later block uses the same parameters
                ops.place.accumulate(d[name], grad)
            else:
                d[name] = grad
        if group not in cache.group_of[:i]:  # nor does an earlier block use them
            hand_over({name: d[name] for name in d_block})
        dx = plus(dx, dhidden[i], ops)  # x_i is also a hidden state that is returned
    return None if frozen else dx, d


# ---------------------------------------------------------------- embeddings


def embed(rows: Rows, p: Params, padding_id: int, context: Context):
    """Rows  ->  x₀ (N,C), cache.  padding_id: the word whose embedding is not trained."""
    a, ops = context.architecture, context.ops
    word, word_cache = ops.embedding.forward(p["word.weight"], ids=rows.ids, padding_id=padding_id)
    position, position_cache = ops.embedding.forward(
        p["position.weight"], ids=rows.position, padding_id=a.padding_position
    )
    s, add = ops.add.forward(word, position)
    type_cache = mapping = None
    if a.types:
        kind, type_cache = ops.embedding.forward(p["type.weight"], ids=rows.types)
        s, _ = ops.add.forward(s, kind)
    x, norm = ops.layernorm.forward(s, *of(p, "norm"), eps=a.eps)
    x, dropped = context.drop(x, a.dropout, EMBEDDING_DROPOUT)
    if a.E is not None:
        x, mapping = ops.linear.forward(x, *of(p, "mapping"))  # (N,E) to (N,C)
    return x, (word_cache, position_cache, type_cache, add, norm, dropped, mapping)


def embed_backward(dx, cache: tuple, ops, dtable=None):
    """dx₀ (N,C), None where they are frozen  ->  gradients.  dtable: see `backward`."""
    if dx is None:
        return {}
    word_cache, position_cache, type_cache, add, norm, dropped, mapping = cache
    d = {}
    if mapping is not None:
        dx, d["mapping.weight"], d["mapping.bias"] = ops.linear.backward(dx, mapping)
    dx = drop_backward(dx, dropped, ops)
    ds, d["norm.weight"], d["norm.bias"] = ops.layernorm.backward(dx, norm)
    if type_cache is not None:
        (d["type.weight"],) = ops.embedding.backward(ds, type_cache)
    dword, dposition = ops.add.backward(ds, add)
    (d["position.weight"],) = ops.embedding.backward(dposition, position_cache)
    (d["word.weight"],) = ops.embedding.backward(dword, word_cache._replace(add_to=dtable))
    return d


# ---------------------------------------------------------------- the whole encoder


def forward(p: Params, rows: Rows, padding_id: int, context: Context, blocks: Blocks = None):
    """Rows  ->  hidden states (x₀, …, x_L), each (N,C), cache.

    blocks: L functions that replace `block`, such as `tapped_block`.
    """
    x, embedding = embed(rows, scope(p, "embeddings"), padding_id, context)
    hidden, cache = stack(blocks or [block] * context.architecture.L, x, p, context)
    return tuple(hidden), (embedding, cache) if context.keep else None


def backward(dhidden: Sequence, cache: tuple, ops, release: bool = False, blocks: Blocks = None,
             dtable: Any = None):  # fmt: skip
    """dhidden: L+1 gradients (N,C), the last an array, the others or None  ->  gradients.

    release: each block's cache is dropped once it is used, so that its memory serves the blocks
    below; the cache is then good for one backward only. blocks: L functions in place of
    `block_backward`. dtable: a gradient (V,C) of the word embeddings, from a head that shares them;
    theirs is added to it.
    """
    embedding, inner = cache
    dx, d = stack_backward(
        blocks or [block_backward] * len(inner.caches), dhidden, inner, ops, release
    )
    dembeddings = embed_backward(dx, embedding, ops, dtable)
    return d | {f"embeddings.{k}": grad for k, grad in dembeddings.items()}
