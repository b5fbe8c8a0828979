"""The decoder of GPT-2: the encoder's two sublayers with LayerNorm moved.

    x₀ = word[id] + position[position]
    u  = x + self_attention(LN(x))
    y  = u + feed_forward(LN(u))

LayerNorm stands before each product instead of after each sum, so the sums reach from the last
block down to the embeddings unchanged. One more LayerNorm, `final_norm`, follows the last block;
its output is the last hidden state. Attention is causal: a token attends to itself and to the
tokens before it. The images of `vision_encoder` use the same block without that mask.

q, k and v are one parameter here, `qkv` (3C,C), a third for each.
Sources: Radford et al., "Language models are unsupervised multitask learners" (GPT-2), 2019, §2.3;
Brown et al., "Language models are few-shot learners" (GPT-3), 2020, §2.1.
"""

from collections.abc import Sequence
from typing import Any

from minidistil.model.context import EMBEDDING_DROPOUT, Context, drop_backward, plus
from minidistil.model.encoder import (
    Blocks,
    Params,
    feed_forward,
    feed_forward_backward,
    of,
    scope,
    self_attention,
    self_attention_backward,
    stack,
    stack_backward,
)
from minidistil.model.handing_over import hand_over
from minidistil.model.rows import Rows

# ---------------------------------------------------------------- q, k and v in one parameter


def split_qkv(p: Params) -> dict:
    """The parameters of a block with `q`, `k` and `v`, views of the thirds of `qkv`."""
    found = dict(p)
    for kind in ("weight", "bias"):
        qkv = found.pop(f"qkv.{kind}")
        C = len(qkv) // 3
        found |= {f"{name}.{kind}": qkv[i * C : (i + 1) * C] for i, name in enumerate("qkv")}
    return found


def join_qkv(d: dict, ops) -> dict:
    """Gradients of `q`, `k` and `v`  ->  that of `qkv`, the others as they are."""
    for kind in ("weight", "bias"):
        d[f"qkv.{kind}"] = ops.place.stack([d.pop(f"{name}.{kind}") for name in "qkv"])
    return d


# ---------------------------------------------------------------- one block


def attention_sublayer(x, p: Params, context: Context):
    """x (N,C)  ->  u (N,C) = x + self_attention(LN(x)), cache."""
    ops = context.ops
    n, norm = ops.layernorm.forward(x, *of(p, "attention_norm"), eps=context.architecture.eps)
    o, attention = self_attention(n, p, context)
    u, _ = ops.add.forward(x, o)
    return u, (norm, attention)


def attention_sublayer_backward(du, cache: tuple, ops):
    """du (N,C)  ->  dx (N,C), gradients."""
    norm, attention = cache
    dn, d = self_attention_backward(du, attention, ops)
    dx, d["attention_norm.weight"], d["attention_norm.bias"] = ops.layernorm.backward(dn, norm)
    return plus(du, dx, ops), d  # x fed the sum and LN


def ffn_sublayer(u, p: Params, context: Context):
    """u (N,C)  ->  y (N,C) = u + feed_forward(LN(u)), cache."""
    ops = context.ops
    n, norm = ops.layernorm.forward(u, *of(p, "ffn_norm"), eps=context.architecture.eps)
    f, ffn = feed_forward(n, p, context)
    y, _ = ops.add.forward(u, f)
    return y, (norm, ffn)


def ffn_sublayer_backward(dy, cache: tuple, ops):
    """dy (N,C)  ->  du (N,C), gradients."""
    norm, ffn = cache
    dn, d = feed_forward_backward(dy, ffn, ops)
    du, d["ffn_norm.weight"], d["ffn_norm.bias"] = ops.layernorm.backward(dn, norm)
    return plus(dy, du, ops), d  # u fed the sum and LN


def block(x, p: Params, context: Context):
    """x (N,C)  ->  y (N,C), cache."""
    p = split_qkv(p)
    u, attention = attention_sublayer(x, p, context)
    y, ffn = ffn_sublayer(u, p, context)
    return y, (attention, ffn)


def block_backward(dy, cache: tuple, ops):
    """dy (N,C)  ->  dx (N,C), gradients."""
    attention, ffn = cache
    du, d_ffn = ffn_sublayer_backward(dy, ffn, ops)
    dx, d_attention = attention_sublayer_backward(du, attention, ops)
    return dx, join_qkv(d_ffn | d_attention, ops)


# ---------------------------------------------------------------- embeddings


def embed(rows: Rows, p: Params, context: Context):
    """Rows  ->  x₀ (N,C), cache."""
    ops = context.ops
    word, word_cache = ops.embedding.forward(p["word.weight"], ids=rows.ids)
    position, position_cache = ops.embedding.forward(p["position.weight"], ids=rows.position)
    x, add = ops.add.forward(word, position)
    x, dropped = context.drop(x, context.architecture.embedding_dropout, EMBEDDING_DROPOUT)
    return x, (word_cache, position_cache, add, dropped)


def embed_backward(dx, cache: tuple, ops, dtable=None):
    """dx₀ (N,C), None where they are frozen  ->  gradients."""
    if dx is None:
        return {}
    word_cache, position_cache, add, dropped = cache
    d = {}
    dword, dposition = ops.add.backward(drop_backward(dx, dropped, ops), add)
    (d["position.weight"],) = ops.embedding.backward(dposition, position_cache)
    (d["word.weight"],) = ops.embedding.backward(dword, word_cache._replace(add_to=dtable))
    return d


# ---------------------------------------------------------------- the whole decoder


def final_norm(x, p: Params, context: Context):
    """x_L (N,C)  ->  LN(x_L) (N,C), cache."""
    return context.ops.layernorm.forward(x, *of(p, "final_norm"), eps=context.architecture.eps)


def forward(p: Params, rows: Rows, padding_id: int, context: Context, blocks: Blocks = None):
    """Rows  ->  hidden states (x₀, …, x_{L−1}, final_norm(x_L)), each (N,C), cache.

    As `encoder.forward`; every embedding is trained, so `padding_id` is not used.
    """
    x, embedding = embed(rows, scope(p, "embeddings"), context)
    hidden, cache = stack(blocks or [block] * context.architecture.L, x, p, context)
    hidden[-1], norm = final_norm(hidden[-1], p, context)
    return tuple(hidden), (embedding, cache, norm) if context.keep else None


def backward(dhidden: Sequence, cache: tuple, ops, release: bool = False, blocks: Blocks = None,
             dtable: Any = None):  # fmt: skip
    """dhidden: L+1 gradients (N,C), the last an array, the others or None  ->  gradients.

    As `encoder.backward`.
    """
    embedding, inner, norm = cache
    dx, *dnorm = ops.layernorm.backward(dhidden[-1], norm)
    dnorm = dict(zip(("final_norm.weight", "final_norm.bias"), dnorm, strict=True))
    hand_over(dnorm)
    dx, d = stack_backward(
        blocks or [block_backward] * len(inner.caches), (*dhidden[:-1], dx), inner, ops, release
    )
    dembeddings = embed_backward(dx, embedding, ops, dtable)
    return d | dnorm | {f"embeddings.{k}": grad for k, grad in dembeddings.items()}
