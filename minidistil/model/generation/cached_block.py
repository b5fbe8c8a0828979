"""The decoders' blocks with a KV cache: inference, in which only the newest tokens are computed.

The keys and values of a token do not change when others follow it, so each block keeps them
(`KVCache`), and a step of decoding computes one row for each text. The keys and values of an
encoder's output are computed once. There is no dropout and no backward.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidistil.model import decoder, encoder
from minidistil.model.context import Context
from minidistil.model.encoder import Params, of


class KnownMemory(NamedTuple):
    """The keys and values of an encoder's output in one block, and which rows attend to them."""

    k: Any  # (M,C)
    v: Any  # (M,C)
    bounds: np.ndarray  # (B+1,) sequence b is rows bounds[b] to bounds[b+1] of k and v
    queries: np.ndarray  # (B+1,) the rows of the decoder that attend to it


def cached_attention(x, p: Params, context: Context, extend: Callable):
    """x (N,C) of the newest tokens  ->  o (N,C), as `encoder.self_attention` of whole texts.

    extend: one block's function of `KVCache.layer`.
    """
    ops = context.ops
    q, _ = ops.linear.forward(x, *of(p, "q"))
    k, _ = ops.linear.forward(x, *of(p, "k"))
    v, _ = ops.linear.forward(x, *of(p, "v"))
    keys, values, both_bounds = extend(k, v, context.bounds)
    y, _ = ops.attention.forward(
        q, keys, values, **both_bounds, n_heads=context.architecture.H, causal=True, keep=False
    )
    return ops.linear.forward(y, *of(p, "out"))[0]


def gpt2_block(x, p: Params, context: Context, extend: Callable):
    """x (N,C) of the newest tokens  ->  y (N,C), as `decoder.block`."""
    ops, p = context.ops, decoder.split_qkv(p)
    n, _ = ops.layernorm.forward(x, *of(p, "attention_norm"), eps=context.architecture.eps)
    u, _ = ops.add.forward(x, cached_attention(n, p, context, extend))
    return decoder.ffn_sublayer(u, p, context)[0]


def reading_block(x, p: Params, context: Context, extend: Callable, memory: KnownMemory):
    """x (N,C) of the newest tokens  ->  y (N,C), as `cross_attention.cross_block`."""
    ops, how = context.ops, {"eps": context.architecture.eps, "keep": False}
    o = cached_attention(x, p, context, extend)
    u, _ = ops.add_layernorm.forward(x, o, *of(p, "attention_norm"), **how)
    q, _ = ops.linear.forward(u, *of(p, "cross_q"))
    z, _ = ops.attention.forward(
        q, memory.k, memory.v, bounds=memory.queries, key_bounds=memory.bounds,
        n_heads=context.architecture.H, keep=False,
    )  # fmt: skip
    o, _ = ops.linear.forward(z, *of(p, "cross_out"))
    w, _ = ops.add_layernorm.forward(u, o, *of(p, "cross_norm"), **how)
    return encoder.ffn_sublayer(w, p, context)[0]
