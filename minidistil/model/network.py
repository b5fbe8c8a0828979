"""A whole model as one pair of functions: the body (encoder or decoder) and the task's heads."""

from typing import Any, NamedTuple

from minidistil.config.base import Architecture
from minidistil.model import decoder, encoder, heads, tapped_block
from minidistil.model.context import Context, plus
from minidistil.model.encoder import Params
from minidistil.model.handing_over import hand_over
from minidistil.model.heads import heads_of
from minidistil.model.rows import DropoutState, Rows


class Result(NamedTuple):
    """The outputs of a forward; None for those that the task does not have."""

    hidden: tuple  # x₀ … x_L, each (N,C)
    features: object = None  # (M,C) of the masked-LM head, before the projection
    logits: object = None  # (M,V) for the selected rows; (N,K) or (B,K) of a classifier
    pooled: object = None  # (B,C)
    nsp: object = None  # (B,2), or of ALBERT (B,K)


def answers(result: Result) -> tuple:
    """The arrays of a Result that hold a NaN or infinity if any of its arrays does: every op passes
    them on, so the hidden states before the last need no check."""
    return result.hidden[-1], result.features, result.logits, result.pooled, result.nsp


class Cotangents(NamedTuple):
    """Gradients of the loss with respect to a Result, with its shapes; None is zero.

    projection: in place of logits, where `ops.vocabulary` computed the losses, what its backward
    returns: gradients of the features (M,C) and of the projection's weight and bias.
    """

    hidden: tuple
    projection: tuple | None = None
    logits: object = None
    pooled: object = None
    nsp: object = None


class Cache(NamedTuple):
    """What a forward keeps for its backward."""

    architecture: Architecture
    body: tuple  # of the encoder or the decoder
    heads: dict  # {head: its cache}
    last: Any  # (N,C), the last hidden state


class ForwardOptions(NamedTuple):
    """Which logits a caller wants, and what else; the defaults are those of a training step."""

    select: Any = None  # (M,) rows that the head over the vocabulary reads; None: all of them
    taps: dict | None = None  # {"layer.0": {}, …}, see `tapped_block`
    project: bool = True  # False: that head stops at its features
    keep: bool = True  # False: inference, no cache


ALL_ROWS = ForwardOptions()


def forward(p: Params, rows: Rows, config: Any, task: str, dropout_state: DropoutState | None,
            ops: Any, options: ForwardOptions = ALL_ROWS):  # fmt: skip
    """Rows  ->  Result, cache.  p: canonical parameters; dropout_state: None in evaluation."""
    a = config.architecture
    context = Context(a, rows.bounds, ops, dropout_state, options.keep)
    blocks = tapped_block.blocks(a, options.taps) if options.taps else None
    hidden, body = body_of(a).forward(p, rows, config.pad_token_id, context, blocks)
    h, pooled_context = hidden[-1], context.of_rows(rows.bounds[:-1])
    features = logits = pooled = nsp = None
    caches = {}
    for head in heads_of(config, task):
        if head in heads.VOCABULARY_HEADS:
            features, logits, caches[head] = heads.vocabulary_head(
                h, p, head, context, options.select, options.project
            )
        elif head in heads.POOLERS:
            pooled, caches["pooler"] = heads.pool(h, p, head, pooled_context)
        else:
            classifier = heads.CLASSIFIERS[head]
            by_token = classifier.reads == "tokens"
            x, its_context = (h, context) if by_token else (pooled, pooled_context)
            y, caches[head] = heads.classify(x, p, classifier, its_context)
            logits, nsp = (logits, y) if head in heads.SENTENCE_PAIR_HEADS else (y, nsp)
    result = Result(hidden, features, logits, pooled, nsp)
    return result, Cache(a, body, caches, h) if options.keep else None


def backward(d: Cotangents, cache: Cache, ops, dtaps: dict | None = None, release: bool = False):
    """Cotangents  ->  gradients under canonical names, without those of unused heads. Of
    d.projection, the weight's gradient becomes that of the word embeddings, in place.

    dtaps: {"layer.0": {"q": (N,C), …}, …}. release: as in `encoder.backward`.
    """
    caches, grads, dh, dpooled = cache.heads, {}, d.hidden[-1], d.pooled
    for head in reversed([head for head in heads.CLASSIFIERS if head in caches]):
        dy = d.nsp if head in heads.SENTENCE_PAIR_HEADS else d.logits
        if dy is not None:
            dx, dp = heads.classify_backward(dy, caches[head], ops)
            grads |= dp
            if heads.CLASSIFIERS[head].reads == "tokens":
                dh = plus(dh, dx, ops)
            else:
                dpooled = plus(dpooled, dx, ops)
    if dpooled is not None:
        dx, dp = heads.pool_backward(dpooled, caches["pooler"], ops)
        dh, grads = plus(dh, dx, ops), grads | dp
    dword = None
    for head in set(heads.VOCABULARY_HEADS) & set(caches):
        dx, dword, dp = heads.vocabulary_head_backward(d.logits, d.projection, caches[head], ops)
        dh, grads = plus(dh, dx, ops), grads | dp
    hand_over(grads)
    dh = ops.place.zeros_like(cache.last) if dh is None else dh
    a = cache.architecture
    blocks = tapped_block.blocks_backward(a, dtaps) if dtaps else None
    dhidden = (*d.hidden[:-1], dh)  # tied: the table of dword is looked up below, too
    return body_of(a).backward(dhidden, cache.body, ops, release, blocks, dword) | grads


def body_of(a: Architecture):
    """The module of the body, `encoder` or `decoder`."""
    return decoder if a.causal else encoder
