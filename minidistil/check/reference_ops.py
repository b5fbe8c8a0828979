"""The ops as they are right, on padded arrays, in one place where each can be replaced.

The model itself knows no padding. A mistake often is about padding, so here everything is (B,T,·)
and unfused: what a PyTorch implementation computes, step by step. The formulas are those of
`minidistil.ops`, whose specifications compute where they take padded arrays.
"""

import math

import numpy as np

from minidistil import losses
from minidistil.model.encoder import GELU_FORM
from minidistil.ops import backend

SPEC = backend("numpy")


def embedding_sum(word, position, kind=None, *, ids, types=None, first=0):
    """Tables word (V,C), position (P,C), kind (types,C) or None; ids, types (B,T)  ->  (B,T,C).

    first: the row of column 0; RoBERTa's is that behind the padding's.
    """
    total = word[ids] + position[first + np.arange(ids.shape[1])]
    return total if kind is None else total + kind[types]


def layernorm(x, gamma, beta, *, eps=1e-12):
    """x (…,C), gamma (C,), beta (C,)  ->  (…,C)."""
    flat = x.reshape(-1, x.shape[-1])
    return SPEC.layernorm.forward(flat, gamma, beta, eps=eps)[0].reshape(x.shape)


def linear(x, weight, bias):
    """x (…,I), weight (O,I), bias (O,)  ->  (…,O)."""
    flat = x.reshape(-1, x.shape[-1])  # one product reads the weight once
    return (flat @ weight.T + bias).reshape(*x.shape[:-1], len(weight))


def activation(x, *, name="gelu"):
    """x (…,F)  ->  (…,F).  name: as in config.json."""
    op, options = activation_op(name)
    return op.forward(x, **options)[0]


def activation_op(name):
    """The op that a config's name means, and its options."""
    if name in ("relu", "tanh"):
        return getattr(SPEC, name), {}
    return SPEC.gelu, {"approximate": GELU_FORM[name]}


def residual(x, y):
    """What a block adds to its input: x, y (B,T,C)  ->  (B,T,C)."""
    return x + y


def heads(n_heads):
    """The pair split: (B,T,C) -> (B,H,T,D) and merge: (B,H,T,D) -> (B,T,C)."""

    def split(x):
        return x.reshape(*x.shape[:2], n_heads, -1).swapaxes(1, 2)

    def merge(x):
        B, H, T, D = x.shape
        return x.swapaxes(1, 2).reshape(B, T, H * D)

    return split, merge


def scores(q, k):
    """q, k (B,H,T,D)  ->  (B,H,T,T): queries along the third axis, keys along the last."""
    return q @ k.swapaxes(2, 3) / math.sqrt(q.shape[3])


def softmax(s, axis=-1):
    """Shares of the whole along an axis; -inf is a share of 0."""
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(z):
    """Logits (…,V)  ->  their logarithmic shares."""
    below = z - z.max(axis=-1, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=-1, keepdims=True))


def weights(s, mask=None):
    """Scores (B,H,T,T), mask (B,T) or None  ->  each query's weights over the real keys."""
    return softmax(s if mask is None else np.where(mask[:, None, None, :], s, -np.inf))


def attention(q, k, v, *, n_heads, mask=None, replaced=None):
    """q, k, v (B,T,C)  ->  context (B,T,C).  replaced: {name of a step above: another function}."""
    steps = {"heads": heads, "scores": scores, "weights": weights, **(replaced or {})}
    split, merge = steps["heads"](n_heads)
    a = steps["weights"](steps["scores"](split(q), split(k)), mask)
    return merge(a @ split(v))


def block(x, attend, attention_norm, feed, output_norm, residual):
    """A block's order: a sum and then a LayerNorm, twice.  x (B,T,C)  ->  (B,T,C)."""
    u = attention_norm(residual(x, attend(x), "attention_sum"))
    return output_norm(residual(u, feed(u), "output_sum"))


def layer_of(i):
    """Whose parameters layer i has."""
    return i


def pool(h, mask=None):
    """What stands for a whole text: h (B,T,C)  ->  its first token's (B,C)."""
    return h[:, 0]


def projection(x, word, bias):
    """Features (B,T,C) onto the vocabulary through the embedding table (V,C)  ->  (B,T,V)."""
    return linear(x, word, bias)


def spans(z):
    """What is said of each token as an answer's end: (B,T,2)  ->  start, end, (B,T,1) each."""
    return z[..., :1], z[..., 1:]


def text_vector(h, mask, *, mode, normalize):
    """h (B,T,C), mask (B,T)  ->  (B,C): the mean of the real tokens or the first one, and then,
    where the folder says so, of length 1."""
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
    """q, k (B,T,C) and the teacher's (B,T,C′), mask (B,T)  ->  how far softmax(q·kᵀ/√D) is from
    the teacher's.

    measure: of the op `relation`. weights (B,): what each sequence counts; by default the mean of
    AttentionLoss, over a head's rows ("kl", "ce") or entries ("scores", "probs") of all sequences.
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


OBJECTIVES = {  # no part of a model's own forward
    f.__name__: f
    for f in (kl_div, cosine, cross_entropy, mse, mae, moments, relation, binary_cross_entropy)
}
RIGHT = {
    f.__name__: f
    for f in (embedding_sum, layernorm, linear, activation, residual, heads, scores, softmax,
              weights, attention, block, layer_of, pool, projection, spans, text_vector)
} | OBJECTIVES  # fmt: skip
