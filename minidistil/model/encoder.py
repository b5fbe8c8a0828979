"""The encoder that BERT, RoBERTa, ALBERT and DistilBERT share: embeddings, then L blocks of
attention and feed-forward, each followed by a residual sum and a LayerNorm.

    x₀ = LN(word[id] + position[position] (+ type[type]))
    u  = LN(x + out(attention(q(x), k(x), v(x))))
    y  = LN(u + lin2(gelu(lin1(u))))

The families differ in four switches: whether there are token types, whether dropout follows `out`
(BERT) or not (DistilBERT), LayerNorm's ε, and how positions are counted (`rows`). Where padding has
a position (RoBERTa), it is not trained. ALBERT embeds in fewer channels E and maps them onto C,

    x₀ = mapping(LN(…))

and its layers take turns with a few blocks, whose gradients are the sums over their turns. Each
backward is its forward read upwards.

The decoder of an encoder–decoder is the same block with two differences: its words look at no later
word, and between attention and feed-forward it attends to the encoder's output (`cross.py`).
Sources: Devlin et al., "BERT", 2018, §3; Sanh et al., "DistilBERT", 2019, §3;
Liu et al., "RoBERTa", 2019; Lan et al., "ALBERT", 2019, §3.
"""

from typing import NamedTuple

from minidistil.model.rows import drop, drop_backward
from minidistil.model.seq2seq import cross_attention
from minidistil.model.taps import plus, scores_backward

EMBEDDING_SITE, HEAD_SITE, FIRST_BLOCK_SITE, SITES_PER_BLOCK = 0, 1, 2, 3
DENSE_SITE = 2**16  # RoBERTa's classifier has a second one, beyond those of all blocks


def site_of(block, a):
    """The first of a block's places of dropout; those of `block` L are the first after a model."""
    return FIRST_BLOCK_SITE + (SITES_PER_BLOCK + cross_attention.SITES * a.reader) * block


def scope(params, prefix):
    """The parameters under `prefix.`, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in params.items() if k.startswith(prefix + ".")}


# ---------------------------------------------------------------- embeddings


def embed(rows, p, a, pad, dropout_state, ops):
    """Rows  ->  x (N,C), cache.  p: the parameters under `embeddings`."""
    word, word_cache = ops.embedding.forward(p["word.weight"], ids=rows.ids, padding_id=pad)
    position, position_cache = ops.embedding.forward(
        p["position.weight"], ids=rows.position, padding_id=a.padding_position
    )
    s, add = ops.add.forward(word, position)
    type_cache = None
    if a.types:
        kind, type_cache = ops.embedding.forward(p["type.weight"], ids=rows.types)
        s, _ = ops.add.forward(s, kind)
    x, norm = ops.layernorm.forward(s, p["norm.weight"], p["norm.bias"], eps=a.eps)
    x, dropped = drop(x, a.dropout, EMBEDDING_SITE, dropout_state, ops)
    mapping = None
    if a.E is not None:
        x, mapping = ops.linear.forward(x, p["mapping.weight"], p["mapping.bias"])  # (N,C)
    return x, (word_cache, position_cache, type_cache, add, norm, dropped, mapping)


def embed_backward(dx, cache, ops):
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
    (d["word.weight"],) = ops.embedding.backward(dword, word_cache)
    return d


# ---------------------------------------------------------------- linear and activation

GELU_FORM = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def expand(x, weight, bias, activation, ops, keep=True):
    """x (N,I), weight (O,I), bias (O,)  ->  activation(linear(x)) (N,O), the caches of both.

    activation: as in config.json.
    """
    if activation == "relu":
        h, product = ops.linear.forward(x, weight, bias)
        y, kept = ops.relu.forward(h)
        return y, (product, kept)
    form = GELU_FORM[activation]
    return ops.linear_gelu.forward(x, weight, bias, approximate=form, keep=keep)


def expand_backward(dy, cache, activation, ops):
    """dy (N,O), cache  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    if activation == "relu":
        product, kept = cache
        (dh,) = ops.relu.backward(dy, kept)
        return ops.linear.backward(dh, product)
    return ops.linear_gelu.backward(dy, cache)


# ---------------------------------------------------------------- one block


class Block(NamedTuple):
    """What one block keeps for its backward, in the order of its forward."""

    q: tuple
    k: tuple
    v: tuple
    attention: tuple
    out: tuple
    out_dropped: tuple | None
    attention_norm: tuple
    cross: tuple | None  # of a decoder
    lin1: tuple
    lin2: tuple
    lin2_dropped: tuple | None
    output_norm: tuple


def block(
    x, p, a, bounds, dropout_state, site, ops, taps=None, keep=True, memory=None, kv_cache=None
):
    """x (N,C)  ->  y (N,C), cache.

    taps: a dict that receives the quantities in between. memory: a cross.Memory that a decoder
    reads. past: a function from this block's new keys and values to all of them and their bounds,
    see `KVCache`.
    """
    q, q_cache = ops.linear.forward(x, p["q.weight"], p["q.bias"])
    k, k_cache = ops.linear.forward(x, p["k.weight"], p["k.bias"])
    v, v_cache = ops.linear.forward(x, p["v.weight"], p["v.bias"])
    keys, values, meeting = (
        (k, v, {"bounds": bounds}) if kv_cache is None else kv_cache(k, v, bounds)
    )
    dropout_key = (
        dropout_state.dropout_key(site, a.attention_dropout)
        if dropout_state and a.attention_dropout
        else None
    )
    context, attention = ops.attention.forward(
        q, keys, values, **meeting, n_heads=a.H, causal=a.reader, dropout_key=dropout_key, keep=keep
    )
    o, out = ops.linear.forward(context, p["out.weight"], p["out.bias"])
    od, out_dropped = drop(o, a.dropout * a.drops_attention_output, site + 1, dropout_state, ops)
    u, attention_norm = ops.add_layernorm.forward(
        x, od, p["attention_norm.weight"], p["attention_norm.bias"], eps=a.eps, keep=keep
    )
    crossed = None
    if memory is not None:
        u, crossed = cross_attention.attend(
            u, memory, p, a, dropout_state, site + SITES_PER_BLOCK, ops, keep
        )
    g, lin1 = expand(u, p["lin1.weight"], p["lin1.bias"], a.activation, ops, keep)  # (N,F)
    f, lin2 = ops.linear.forward(g, p["lin2.weight"], p["lin2.bias"])  # (N,C)
    fd, lin2_dropped = drop(f, a.dropout * a.drops_ffn_output, site + 2, dropout_state, ops)
    y, output_norm = ops.add_layernorm.forward(
        u, fd, p["output_norm.weight"], p["output_norm.bias"], eps=a.eps, keep=keep
    )
    if taps is not None:
        s, _ = ops.add.forward(x, od)  # what fusing has swallowed is computed once more
        h, _ = ops.linear.forward(u, p["lin1.weight"], p["lin1.bias"])
        r, _ = ops.add.forward(u, fd)
        taps.update(q=q, k=k, v=v, context=context, out=o, attention_sum=s, attention_norm=u,
                    lin1=h, activation=g, lin2=f, output_sum=r, output=y)  # fmt: skip
    return y, Block(
        q_cache, k_cache, v_cache, attention, out, out_dropped, attention_norm, crossed,
        lin1, lin2, lin2_dropped, output_norm,
    )  # fmt: skip


def block_backward(dy, cache, a, ops, dtaps=None):
    """dy (N,C), cache  ->  dx (N,C), gradients by role.  dtaps: more gradients, by tap."""
    d, t = {}, dtaps or {}
    dy = plus(dy, t.get("output"), ops)
    dr, _, d["output_norm.weight"], d["output_norm.bias"] = ops.add_layernorm.backward(
        dy, cache.output_norm
    )
    du = dfd = plus(dr, t.get("output_sum"), ops)  # the sum's gradient is that of both its terms
    df = plus(drop_backward(dfd, cache.lin2_dropped, ops), t.get("lin2"), ops)
    dg, d["lin2.weight"], d["lin2.bias"] = ops.linear.backward(df, cache.lin2)
    dg = plus(dg, t.get("activation"), ops)
    dlin1 = expand_backward(dg, cache.lin1, a.activation, ops)
    if "lin1" in t:
        straight = ops.linear.backward(t["lin1"], cache.lin1[0])  # past the activation
        for whole, part in zip(dlin1, straight, strict=True):
            ops.place.accumulate(whole, part)
    du_ffn, d["lin1.weight"], d["lin1.bias"] = dlin1
    du = plus(plus(du, du_ffn, ops), t.get("attention_norm"), ops)  # u fed the sum and lin1
    if cache.cross is not None:
        du, d["memory"], dp = cross_attention.attend_backward(du, cache.cross, ops)
        d.update(dp)
    ds, _, d["attention_norm.weight"], d["attention_norm.bias"] = ops.add_layernorm.backward(
        du, cache.attention_norm
    )
    dx = dod = plus(ds, t.get("attention_sum"), ops)
    do = plus(drop_backward(dod, cache.out_dropped, ops), t.get("out"), ops)
    dcontext, d["out.weight"], d["out.bias"] = ops.linear.backward(do, cache.out)
    dcontext = plus(dcontext, t.get("context"), ops)
    dq, dk, dv = ops.attention.backward(dcontext, cache.attention)
    dq_scores, dk_scores = scores_backward(t, cache.attention, ops)
    dq, dk = plus(dq, dq_scores, ops), plus(dk, dk_scores, ops)
    for name, dz, linear in (("q", dq, cache.q), ("k", dk, cache.k), ("v", dv, cache.v)):
        dz = plus(dz, t.get(name), ops)
        dx_part, d[f"{name}.weight"], d[f"{name}.bias"] = ops.linear.backward(dz, linear)
        dx = plus(dx, dx_part, ops)  # x fed the sum and all three products
    return dx, d


# ---------------------------------------------------------------- all of them


def forward(p, rows, a, pad, dropout_state, ops, taps=None, keep=True, memory=None):
    """Rows  ->  hidden states (x₀, …, x_L), each (N,C), cache.

    p: canonical parameters; pad: the id whose embedding is not trained; chance: None in evaluation;
    taps: {"layer.0": {}, …}, a dict to fill for each layer that is looked at. keep=False: no cache,
    so that what a block needed is free before the next one begins. memory: the cross.Memory that
    the blocks of a decoder attend to.
    """
    x, embedding = embed(rows, scope(p, "embeddings"), a, pad, dropout_state, ops)
    hidden, blocks = [x], []
    for i in range(a.L):
        inner = None if taps is None else taps.get(f"layer.{i}")
        own, site = scope(p, f"layer.{a.blocks[i]}"), site_of(i, a)
        x, cache = block(x, own, a, rows.bounds, dropout_state, site, ops, inner, keep, memory)
        hidden.append(x)
        if keep:
            blocks.append(cache)
        del cache
    return tuple(hidden), (embedding, blocks, a) if keep else None


def backward(dhidden, cache, ops, dtaps=None, release=False):
    """dhidden: L+1 gradients (N,C), the last an array, the others or None  ->  canonical grads,
    with those of a decoder's memory (M,C) under "memory".

    release: what a block has kept is given up once it is used, so that its memory serves the blocks
    below; the cache is then good for one backward only.
    """
    embedding, blocks, a = cache
    d, dtaps, dmemory = {}, dtaps or {}, None
    dx = dhidden[-1]
    for i in reversed(range(len(blocks))):
        dx, dp = block_backward(dx, blocks[i], a, ops, dtaps.get(f"layer.{i}"))
        if release:
            blocks[i] = None
        dmemory = plus(dmemory, dp.pop("memory", None), ops)  # every block reads it
        for name, grad in dp.items():
            name = f"layer.{a.blocks[i]}.{name}"
            if name in d:  # a block that had a turn above
                ops.place.accumulate(d[name], grad)
            else:
                d[name] = grad
        dx = plus(dx, dhidden[i], ops)  # x was handed out, and fed the next block
    d.update({f"embeddings.{k}": grad for k, grad in embed_backward(dx, embedding, ops).items()})
    return d if dmemory is None else d | {"memory": dmemory}
