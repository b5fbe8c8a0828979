"""A whole model as one pair of functions: rows in, hidden states and logits out, and back."""

from typing import NamedTuple

from minidistil.model import decoder, encoder, heads
from minidistil.model.heads import heads_of
from minidistil.model.taps import plus


class Result(NamedTuple):
    """What a forward computes; None for what the task does not have."""

    hidden: tuple  # x₀ … x_L, each (N,C)
    features: object = None  # (M,C) of the masked-LM head, before the projection
    logits: object = None  # (M,V) for the selected rows; (N,K) or (B,K) of a classifier
    pooled: object = None  # (B,C)
    nsp: object = None  # (B,2), or of ALBERT (B,K)


def answers(result):
    """The arrays of a Result in which any number that is not finite shows: every op passes it on,
    so that the hidden states before the last need no look."""
    return result.hidden[-1], result.features, result.logits, result.pooled, result.nsp


class Cotangents(NamedTuple):
    """Gradients of the loss with respect to a Result, with its shapes; None is zero.

    projection: what `ops.vocabulary.backward` gives, where that op computed the losses:
    gradients of the features (M,C) and of the projection's weight and bias.
    """

    hidden: tuple
    projection: tuple | None = None
    logits: object = None
    pooled: object = None
    nsp: object = None


def forward(p, rows, config, task, dropout_state, ops, select=None, taps=None, project=True,
            keep=True, kv_cache=None, memory=None):  # fmt: skip
    """Rows  ->  Result, cache.

    p: canonical parameters; chance: None in evaluation; select: (M,) rows that the masked-LM head
    predicts, all when None; taps: see encoder.forward. project=False: that head stops at its
    features. keep=False: for inference, no cache. past: a decoder's earlier keys and values.
    memory: the encoder's output that a decoder attends to, a cross.Memory.
    """
    a = config.architecture
    lent = {"kv_cache": kv_cache, "memory": memory}
    lent = {name: x for name, x in lent.items() if x is not None}
    hidden, body = body_of(a).forward(
        p, rows, a, config.pad_token_id, dropout_state, ops, taps, keep, **lent
    )
    h, first = hidden[-1], rows.bounds[:-1]
    above = dropout_state and dropout_state.of(first)  # the dropout of what is pooled
    features = logits = pooled = nsp = None
    caches = {}
    for head in heads_of(config, task):
        if head in heads.WORDS:
            picked, gather = (h, None) if select is None else ops.embedding.forward(h, ids=select)
            features, cache = heads.mlm(picked, p, a, ops) if head == "mlm" else (picked, None)
            caches["words"] = (cache, gather)
            if project:
                logits, caches["lm_head"] = ops.linear.forward(features, *heads.lm_head(p))
        elif head in heads.POOLERS:
            pooled, caches["pooler"] = heads.pool(h, first, p, head, a, above, ops)
        else:
            last = heads.CLASSIFIERS[head]
            x, at = (h, dropout_state) if last.reads == "tokens" else (pooled, above)
            y, caches[head] = heads.classify(x, p, last.role, last.rate(a), at, ops)
            logits, nsp = (logits, y) if head in heads.ORDERS else (y, nsp)
    result = Result(hidden, features, logits, pooled, nsp)
    return result, (body, caches, h) if keep else None


def backward(d, cache, ops, dtaps=None, release=False):
    """Cotangents, cache  ->  gradients under canonical names, without those of unused heads.

    release: as in encoder.backward.
    """
    body, caches, h = cache
    grads, dh, dpooled = {}, d.hidden[-1], d.pooled
    for head in reversed([head for head in heads.CLASSIFIERS if head in caches]):
        dy = d.nsp if head in heads.ORDERS else d.logits
        if dy is not None:
            dpart, dp = heads.classify_backward(dy, caches[head], ops)
            grads |= dp
            if heads.CLASSIFIERS[head].reads == "tokens":
                dh = plus(dh, dpart, ops)
            else:
                dpooled = plus(dpooled, dpart, ops)
    if dpooled is not None:
        dpart, dp = heads.pool_backward(dpooled, caches["pooler"], ops)
        dh, grads = plus(dh, dpart, ops), grads | dp
    projection = d.projection
    if d.logits is not None and "lm_head" in caches:
        projection = ops.linear.backward(d.logits, caches["lm_head"])
    if projection is not None:
        head, gather = caches["words"]
        dpart, grads["embeddings.word.weight"], grads["decoder.bias"] = projection
        dp = {}
        if head is not None:
            dpart, dp = heads.mlm_backward(dpart, head, ops)
        if gather is not None:
            (dpart,) = ops.embedding.backward(dpart, gather)
        dh, grads = plus(dh, dpart, ops), grads | dp
    dh = ops.place.zeros_like(h) if dh is None else dh
    dbody = body_of(body[-1]).backward((*d.hidden[:-1], dh), body, ops, dtaps, release)
    if "embeddings.word.weight" in grads:  # tied: looked up below, projected onto above
        word = "embeddings.word.weight"
        ops.place.accumulate(dbody[word], grads.pop(word))  # no third array of the table's size
    return dbody | grads


def body_of(a):
    """The module of the blocks: the encoder's, or the decoder's."""
    return decoder if a.causal else encoder
