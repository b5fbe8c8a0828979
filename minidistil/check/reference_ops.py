"""Reference ops on padded arrays, each replaceable by a faulty variant.

The model has no padding inside. Many mistakes concern padding, so here everything is (B,T,·) and
unfused, as in a PyTorch implementation. The arithmetic is that of `minidistil/distilbert.py`; the
losses are `minidistil.losses`, and the other activations and objectives are the NumPy
specifications of `minidistil.ops`.
"""

from functools import partial

import numpy as np

from minidistil import distilbert as page
from minidistil import losses
from minidistil.model.encoder import GELU_FORM
from minidistil.ops import backend

SPEC = backend("numpy")


def embedding_sum(word, position, kind=None, *, ids, types=None, first=0):
    """Tables word (V,C), position (P,C), kind (types,C) or None; ids, types (B,T)  ->  (B,T,C).

    first: the position of column 0; in RoBERTa it follows the position of padding.
    """
    columns = np.arange(first, first + ids.shape[1])
    total = page.embedding(word, ids)[0] + page.embedding(position, columns)[0]
    return total if kind is None else total + page.embedding(kind, types)[0]


def layernorm(x, gamma, beta, *, eps=1e-12):
    """x (…,C), gamma (C,), beta (C,)  ->  (…,C)."""
    return page.layernorm(x, gamma, beta, eps)[0]


def linear(x, weight, bias):
    """x (…,I), weight (O,I), bias (O,)  ->  (…,O)."""
    flat = x.reshape(-1, x.shape[-1])  # one product reads the weight once
    return page.linear(flat, weight, bias)[0].reshape(*x.shape[:-1], len(weight))


def activation(x, *, name="gelu"):
    """x (…,F)  ->  (…,F).  name: as in config.json."""
    return _activation(name)[0](x)[0]


def activation_backward(dy, x, *, name="gelu"):
    """dy, x (…,F)  ->  dx (…,F), the gradient with respect to x."""
    forward, backward = _activation(name)
    return backward(dy, forward(x)[1])


def _activation(name):
    """The forward and the backward of an activation, by its name in config.json."""
    if name == "gelu":
        return page.gelu, page.gelu_backward
    op, options = SPEC.gelu, {}
    if name in ("relu", "tanh"):
        op = getattr(SPEC, name)
    else:
        options = {"approximate": GELU_FORM[name]}
    return partial(op.forward, **options), lambda dy, cache: op.backward(dy, cache)[0]


def residual(x, y):
    """The input of a sublayer and its output: x, y (B,T,C)  ->  their sum (B,T,C)."""
    return x + y


def heads(n_heads):
    """The pair split: (B,T,C) -> (B,H,T,D) and merge: (B,H,T,D) -> (B,T,C)."""
    return partial(page.split_heads, H=n_heads), page.merge_heads


def scores(q, k):
    """q, k (B,H,T,D)  ->  (B,H,T,T): queries along the third axis, keys along the last."""
    return page.attention_scores(q, k)


def softmax(s, axis=-1):
    """Probabilities along an axis; the probability of -inf is 0."""
    return np.moveaxis(page.softmax(np.moveaxis(s, axis, -1)), -1, axis)


def weights(s, mask=None):
    """Scores (B,H,T,T), mask (B,T) or None  ->  attention weights over the real keys."""
    return page.softmax(s) if mask is None else page.attention_weights(s, mask)


def attention(q, k, v, *, n_heads, mask=None, replaced=None):
    """q, k, v (B,T,C)  ->  context (B,T,C).  replaced: {name of a step above: its replacement}."""
    steps = {"heads": heads, "scores": scores, "weights": weights, **(replaced or {})}
    split, merge = steps["heads"](n_heads)
    a = steps["weights"](steps["scores"](split(q), split(k)), mask)
    return merge(a @ split(v))


def context_of(context, q, k, v, *, mask, n_heads):
    """context, q, k, v (B,T,C)  ->  the context: what a module that takes other q, k, v or another
    axis changes as a whole."""
    return context


def block(x, attend, attention_norm, feed, output_norm, residual):
    """A post-norm block: residual sum, then LayerNorm, twice.  x (B,T,C)  ->  (B,T,C)."""
    u = attention_norm(residual(x, attend(x), "attention_sum"))
    return output_norm(residual(u, feed(u), "output_sum"))


def layer_of(i):
    """The layer whose parameters layer i uses."""
    return i


def pool(h, mask=None):
    """Hidden states (B,T,C)  ->  the first token's, which represent the text (B,C)."""
    return h[:, 0]


def projection(x, word, bias):
    """Features (B,T,C), embedding table (V,C)  ->  logits over the vocabulary (B,T,V)."""
    return linear(x, word, bias)


def spans(z):
    """The two logits of each token (B,T,2)  ->  start logits, end logits (B,T,1)."""
    return z[..., :1], z[..., 1:]


def text_vector(h, mask, *, mode, normalize):
    """Hidden states (B,T,C), mask (B,T)  ->  (B,C): the mean over real tokens ("mean") or the
    first token ("cls"); normalize scales it to length 1."""
    m = mask[:, :, None]
    v = pool(h) if mode == "cls" else (h * m).sum(axis=1) / m.sum(axis=1)
    return v / np.linalg.norm(v, axis=1, keepdims=True) if normalize else v


def kl_div(student, teacher, *, mask=None, tau=2.0):
    """Logits (…,V), mask (…)  ->  τ²·KL(teacher ‖ student), mean over the real tokens."""
    return losses.kl_divergence(student, teacher, tau, mask)[0]


def cosine(student, teacher, *, mask=None):
    """Hidden states (…,C), mask (…)  ->  mean of 1 − cos over the real tokens."""
    return losses.cosine(student, teacher, mask)[0]


def cross_entropy(logits, labels, *, ignore_index=-100):
    """Logits (…,V), labels (…)  ->  mean of −ln softmax over the labelled tokens."""
    return losses.cross_entropy(logits, labels, ignore_index)[0]


def mse(student, teacher, *, mask=None):
    """Logits (…,V), mask (…)  ->  squared error, summed over classes, mean over real tokens."""
    return losses.mse(student, teacher, mask, "batchmean")[0]


def mae(student, teacher, *, mask=None):
    """Arrays (…,C), mask (…)  ->  absolute error, mean over real tokens and channels."""
    picked = None if mask is None else np.asarray(mask, bool).reshape(-1)
    return SPEC.mae.forward(_rows(student), target=_rows(teacher), mask=picked)[0]


def moments(x):
    """x (…,C)  ->  (2,…): each token's mean and variance over its channels."""
    return SPEC.moments.forward(_rows(x))[0].reshape(2, *x.shape[:-1])


def relation(q, k, teacher_q, teacher_k, *, n_heads, mask=None, measure="kl", weights=None):
    """q, k (B,T,C) and the teacher's (B,T,C′), mask (B,T)  ->  distance of the self-attention
    relation softmax(q·kᵀ/√D) from the teacher's.

    measure: as in the op `relation`. weights (B,): the factor of each sequence; by default the mean
    of AttentionLoss, over a head's rows ("kl", "ce") or entries ("scores", "probs") of all
    sequences.
    """
    mask = np.ones(q.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    lengths = mask.sum(axis=1)
    if weights is None:
        count = (lengths if measure in ("kl", "ce") else lengths**2).sum()
        weights = np.full(len(mask), 1 / (n_heads * count))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return SPEC.relation.forward(
        q[mask], k[mask], target_q=teacher_q[mask], target_k=teacher_k[mask], bounds=bounds,
        n_heads=n_heads, weights=weights, measure=measure,
    )[0]  # fmt: skip


def binary_cross_entropy(logits, labels):
    """logits, labels (N,K)  ->  mean over texts and labels of −ln σ(±z)."""
    return SPEC.binary_cross_entropy.forward(logits, labels=labels)[0]


def _rows(x):
    return x.reshape(-1, x.shape[-1])


OBJECTIVES = {  # not part of a model's forward
    f.__name__: f
    for f in (kl_div, cosine, cross_entropy, mse, mae, moments, relation, binary_cross_entropy)
}
RIGHT = {
    f.__name__: f
    for f in (embedding_sum, layernorm, linear, activation, residual, heads, scores, softmax,
              weights, attention, context_of, block, layer_of, pool, projection, spans, text_vector)
} | OBJECTIVES  # fmt: skip
