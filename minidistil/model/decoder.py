"""The decoder of GPT-2: `encoder.py` with three differences.

    x₀ = word[id] + position[position]
    u  = x + out(attention(q(n), k(n), v(n)))      n = LN(x)
    y  = u + lin2(gelu(lin1(m)))                   m = LN(u)

A token sees itself and what came before it (causal attention); LayerNorm stands before the products
and not after the sums, so the sums reach from the last block down to the embeddings untouched; and
one more, `final_norm`, follows the last block. The last hidden state is its output.

q, k and v are one parameter, `qkv` (3C,C), of which each is a third. `kv_cache` lends the keys and
values of earlier tokens, so that a text can grow without being read again.
Sources: Radford et al., "Language models are unsupervised multitask learners" (GPT-2), 2019, §2.3;
Brown et al., "Language models are few-shot learners" (GPT-3), 2020, §2.1.
"""

from typing import NamedTuple

from minidistil.model.encoder import (
    EMBEDDING_SITE,
    FIRST_BLOCK_SITE,
    SITES_PER_BLOCK,
    expand,
    expand_backward,
    scope,
)
from minidistil.model.rows import drop, drop_backward
from minidistil.model.taps import plus, scores_backward

# ---------------------------------------------------------------- embeddings


def embed(rows, p, a, dropout_state, ops):
    """Rows  ->  x (N,C), cache.  p: the parameters under `embeddings`."""
    word, word_cache = ops.embedding.forward(p["word.weight"], ids=rows.ids)
    position, position_cache = ops.embedding.forward(p["position.weight"], ids=rows.position)
    x, add = ops.add.forward(word, position)
    x, dropped = drop(x, a.embedding_dropout, EMBEDDING_SITE, dropout_state, ops)
    return x, (word_cache, position_cache, add, dropped)


def embed_backward(dx, cache, ops):
    word_cache, position_cache, add, dropped = cache
    d = {}
    dword, dposition = ops.add.backward(drop_backward(dx, dropped, ops), add)
    (d["position.weight"],) = ops.embedding.backward(dposition, position_cache)
    (d["word.weight"],) = ops.embedding.backward(dword, word_cache)
    return d


# ---------------------------------------------------------------- one block


class Gpt2Block(NamedTuple):
    """What one block keeps for its backward, in the order of its forward."""

    attention_norm: tuple
    q: tuple
    k: tuple
    v: tuple
    attention: tuple
    out: tuple
    out_dropped: tuple | None
    ffn_norm: tuple
    lin1: tuple
    lin2: tuple
    lin2_dropped: tuple | None


def thirds(qkv):
    """qkv (3C,·)  ->  {"q": (C,·), "k": …, "v": …}, views."""
    C = qkv.shape[0] // 3
    return {name: qkv[i * C : (i + 1) * C] for i, name in enumerate("qkv")}


def block(x, p, a, bounds, dropout_state, site, ops, taps=None, keep=True, kv_cache=None):
    """x (N,C)  ->  y (N,C), cache.  taps: a dict that receives the quantities in between.

    past: a function from this block's new keys and values to all of them and their key_bounds.
    """
    weight, bias = thirds(p["qkv.weight"]), thirds(p["qkv.bias"])
    n, attention_norm = ops.layernorm.forward(
        x, p["attention_norm.weight"], p["attention_norm.bias"], eps=a.eps
    )
    q, q_cache = ops.linear.forward(n, weight["q"], bias["q"])
    k, k_cache = ops.linear.forward(n, weight["k"], bias["k"])
    v, v_cache = ops.linear.forward(n, weight["v"], bias["v"])
    dropout_key = (
        dropout_state.dropout_key(site, a.attention_dropout)
        if dropout_state and a.attention_dropout
        else None
    )
    keys, values, meeting = (
        (k, v, {"bounds": bounds}) if kv_cache is None else kv_cache(k, v, bounds)
    )
    context, attention = ops.attention.forward(
        q, keys, values, **meeting, n_heads=a.H, causal=a.causal, dropout_key=dropout_key, keep=keep
    )
    o, out = ops.linear.forward(context, p["out.weight"], p["out.bias"])
    od, out_dropped = drop(o, a.dropout, site + 1, dropout_state, ops)
    u, _ = ops.add.forward(x, od)
    m, ffn_norm = ops.layernorm.forward(u, p["ffn_norm.weight"], p["ffn_norm.bias"], eps=a.eps)
    g, lin1 = expand(m, p["lin1.weight"], p["lin1.bias"], a.activation, ops, keep)  # (N,F)
    f, lin2 = ops.linear.forward(g, p["lin2.weight"], p["lin2.bias"])  # (N,C)
    fd, lin2_dropped = drop(f, a.dropout, site + 2, dropout_state, ops)
    y, _ = ops.add.forward(u, fd)
    if taps is not None:
        h, _ = ops.linear.forward(m, p["lin1.weight"], p["lin1.bias"])
        taps.update(q=q, k=k, v=v, context=context, out=o, attention_sum=u, attention_norm=n,
                    lin1=h, activation=g, lin2=f, output_sum=y, output=y)  # fmt: skip
    return y, Gpt2Block(
        attention_norm, q_cache, k_cache, v_cache, attention, out, out_dropped, ffn_norm,
        lin1, lin2, lin2_dropped,
    )  # fmt: skip


def block_backward(dy, cache, a, ops, dtaps=None):
    """dy (N,C), cache  ->  dx (N,C), gradients by role.  dtaps: more gradients, by tap."""
    d, t = {}, dtaps or {}
    du = dfd = plus(plus(dy, t.get("output"), ops), t.get("output_sum"), ops)
    df = plus(drop_backward(dfd, cache.lin2_dropped, ops), t.get("lin2"), ops)
    dg, d["lin2.weight"], d["lin2.bias"] = ops.linear.backward(df, cache.lin2)
    dg = plus(dg, t.get("activation"), ops)
    dlin1 = expand_backward(dg, cache.lin1, a.activation, ops)
    if "lin1" in t:
        straight = ops.linear.backward(t["lin1"], cache.lin1[0])  # past the activation
        for whole, part in zip(dlin1, straight, strict=True):
            ops.place.accumulate(whole, part)
    dm, d["lin1.weight"], d["lin1.bias"] = dlin1
    du_norm, d["ffn_norm.weight"], d["ffn_norm.bias"] = ops.layernorm.backward(dm, cache.ffn_norm)
    dx = dod = plus(plus(du, du_norm, ops), t.get("attention_sum"), ops)  # u fed the sum and LN
    do = plus(drop_backward(dod, cache.out_dropped, ops), t.get("out"), ops)
    dcontext, d["out.weight"], d["out.bias"] = ops.linear.backward(do, cache.out)
    dcontext = plus(dcontext, t.get("context"), ops)
    dq, dk, dv = ops.attention.backward(dcontext, cache.attention)
    dq_scores, dk_scores = scores_backward(t, cache.attention, ops)
    dq, dk = plus(dq, dq_scores, ops), plus(dk, dk_scores, ops)
    dn, dweight, dbias = t.get("attention_norm"), [], []
    for name, dz, linear in (("q", dq, cache.q), ("k", dk, cache.k), ("v", dv, cache.v)):
        dz = plus(dz, t.get(name), ops)
        dn_part, dweight_part, dbias_part = ops.linear.backward(dz, linear)
        dn = plus(dn, dn_part, ops)  # n fed all three products
        dweight.append(dweight_part)
        dbias.append(dbias_part)
    d["qkv.weight"], d["qkv.bias"] = ops.place.stack(dweight), ops.place.stack(dbias)
    dx_norm, d["attention_norm.weight"], d["attention_norm.bias"] = ops.layernorm.backward(
        dn, cache.attention_norm
    )
    return plus(dx, dx_norm, ops), d  # x fed the sum and LN


# ---------------------------------------------------------------- all of them


def forward(p, rows, a, pad, dropout_state, ops, taps=None, keep=True, kv_cache=None):
    """Rows  ->  hidden states (x₀, …, x_{L−1}, final_norm(x_L)), each (N,C), cache.

    As `encoder.forward`; every embedding is trained, so `pad` is not looked at. past: a
    `KVCache`, for inference.
    """
    x, embedding = embed(rows, scope(p, "embeddings"), a, dropout_state, ops)
    hidden, blocks = [x], []
    for i in range(a.L):
        inner = None if taps is None else taps.get(f"layer.{i}")
        site = FIRST_BLOCK_SITE + SITES_PER_BLOCK * i
        lent = None if kv_cache is None else kv_cache.layer(i)
        x, cache = block(
            x, scope(p, f"layer.{i}"), a, rows.bounds, dropout_state, site, ops, inner, keep, lent
        )
        hidden.append(x)
        if keep:
            blocks.append(cache)
        del cache
    norm = p["final_norm.weight"], p["final_norm.bias"]
    hidden[-1], final = ops.layernorm.forward(x, *norm, eps=a.eps)
    return tuple(hidden), (embedding, blocks, final, a) if keep else None


def backward(dhidden, cache, ops, dtaps=None, release=False):
    """dhidden: L+1 gradients (N,C), the last an array, the others or None  ->  canonical grads.

    release: as in `encoder.backward`.
    """
    embedding, blocks, final, a = cache
    d, dtaps = {}, dtaps or {}
    dx, d["final_norm.weight"], d["final_norm.bias"] = ops.layernorm.backward(dhidden[-1], final)
    for i in reversed(range(len(blocks))):
        dx, dp = block_backward(dx, blocks[i], a, ops, dtaps.get(f"layer.{i}"))
        if release:
            blocks[i] = None
        d.update({f"layer.{i}.{name}": grad for name, grad in dp.items()})
        dx = plus(dx, dhidden[i], ops)  # x was handed out, and fed the next block
    d.update({f"embeddings.{k}": grad for k, grad in embed_backward(dx, embedding, ops).items()})
    return d
