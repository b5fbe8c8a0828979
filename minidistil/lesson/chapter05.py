"""Chapter 5, attention: the backward of softmax, and attention with a padding mask."""

import math

import numpy as np

from minidistil.check import explain
from minidistil.lesson.exercise import call, exercise, rng

# ----------------------------------------------------------------------------- softmax


def softmax(s, axis=-1):
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@exercise(
    cases=lambda: [(rng().standard_normal((5, 5)), softmax(rng(1).standard_normal((5, 5))))],
    hint="Chapter 2 has the formula of one row; here each row has its own sum.",
)
def softmax_backward(dy, y):
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


@softmax_backward.right
def by_the_jacobian(dy, y):
    return np.stack([(np.diag(p) - np.outer(p, p)) @ d for d, p in zip(dy, y, strict=True)])


@softmax_backward.right
def in_two_terms(dy, y):
    g = dy * y
    return g - y * np.einsum("nt->n", g)[:, None]


wrong = softmax_backward.wrong
wrong("this is the Jacobian's diagonal alone; every input moves every output")(
    lambda dy, y: dy * y * (1 - y)
)
wrong("the sum over the row is missing")(lambda dy, y: dy * y)
wrong("the sum runs over dy·y, not over dy")(lambda dy, y: y * (dy - dy.sum(1, keepdims=True)))
wrong("the sum belongs to one row, this adds up all of them")(
    lambda dy, y: y * (dy - (dy * y).sum())
)
wrong("the sum runs along the row (axis 1): this is one over the wrong axis, over the rows")(
    lambda dy, y: y * (dy - (dy * y).sum(axis=0, keepdims=True))
)
wrong("the sums stand in a row, not in a column: keepdims=True is missing")(
    lambda dy, y: y * (dy - (dy * y).sum(axis=1))
)
wrong("the sum is weighted by y, this is a mean")(
    lambda dy, y: y * (dy - (dy * y).mean(axis=1, keepdims=True))
)
wrong("y in front is missing")(lambda dy, y: dy - (dy * y).sum(axis=1, keepdims=True))
wrong("the sum is subtracted, not added")(
    lambda dy, y: y * (dy + (dy * y).sum(axis=1, keepdims=True))
)

# ----------------------------------------------------------------------------- all heads, masked


def inputs():
    """Two texts of six tokens, the first with a hole in its mask and padding at its end."""
    mask = np.array([[1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]], bool)
    return [(*1.5 * rng(2).standard_normal((3, 2, 6, 12)), 3, mask)]


def run(attempt, q, k, v, n_heads, mask):
    """The answer, whose rows of padding do not count as long as those of tokens are right."""
    answer = call(attempt, q, k, v, n_heads, mask)
    right = masked_attention(q, k, v, n_heads, mask)
    if np.shape(answer) == right.shape and np.allclose(np.asarray(answer)[mask], right[mask]):
        return right
    return answer


def explained(answer, q, k, v, n_heads, mask):
    return explain("attention", answer, q, k, v, n_heads=n_heads, mask=mask)


@exercise(
    cases=inputs,
    run=run,
    explained=explained,
    hint="reshape(B, T, H, D), swap T and H; keys are the last axis of the scores: mask[:, None, "
    "None, :].",
)
def masked_attention(q, k, v, n_heads, mask):
    """softmax(q·kᵀ/√D)·v in each head, over the keys that are tokens."""
    B, T, C = q.shape
    D = C // n_heads

    def split(x):
        return x.reshape(B, T, n_heads, D).transpose(0, 2, 1, 3)  # (B,H,T,D)

    s = split(q) / math.sqrt(D) @ split(k).transpose(0, 1, 3, 2)  # (B,H,T,T)
    s = s + np.where(mask[:, None, None, :], 0.0, -1e30)
    return (softmax(s) @ split(v)).transpose(0, 2, 1, 3).reshape(B, T, C)


@masked_attention.right
def sequence_by_sequence(q, k, v, n_heads, mask):
    """Without a mask: the rows of padding are taken out, and come back as zeros."""
    y, D = np.zeros_like(q), q.shape[2] // n_heads
    for b, real in enumerate(mask):
        for c in range(0, q.shape[2], D):
            mine, keys, values = (x[b, real, c : c + D] for x in (q, k, v))
            y[b, real, c : c + D] = softmax(mine @ keys.T / math.sqrt(D)) @ values
    return y


@masked_attention.right
def masked_afterwards(q, k, v, n_heads, mask):
    """Weights of padding are set to 0, and the others divided by their new sum."""
    split, merge = layout(n_heads)
    a = softmax(split(q) @ split(k).swapaxes(2, 3) / math.sqrt(q.shape[2] // n_heads))
    a = a * mask[:, None, None, :]
    return merge(a / a.sum(axis=-1, keepdims=True) @ split(v))


def layout(n_heads):
    """(B,T,C) -> (B,H,T,D), and the way back."""
    return (
        lambda x: x.reshape(*x.shape[:2], n_heads, -1).swapaxes(1, 2),
        lambda x: x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1),
    )


def at_keys(s, mask):
    return softmax(np.where(mask[:, None, None, :], s, -1e30))


def variant(*, weights=at_keys, scale=lambda D, C: 1 / math.sqrt(D), layout=layout, mix=None):
    """Attention with one part of it changed."""

    def changed(q, k, v, n_heads, mask):
        split, merge = layout(n_heads)
        C = q.shape[2]
        s = split(q) @ split(k).swapaxes(2, 3) * scale(C // n_heads, C)
        a = weights(s, mask)
        return merge(mix(a, split(v)) if mix else a @ split(v))

    return changed


def interleaved(n_heads):
    """Heads as every n_heads-th channel."""
    return (
        lambda x: x.reshape(*x.shape[:2], -1, n_heads).transpose(0, 3, 1, 2),
        lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1),
    )


wrong = masked_attention.wrong
wrong("the mask is on the queries, axis 2 of the scores: padding is to be masked as a key, axis 3")(
    variant(weights=lambda s, mask: softmax(np.where(mask[:, None, :, None], s, -1e30)))
)
wrong("the mask is on the queries: whole rows of −∞ become NaN; padding is to be masked as a key")(
    variant(weights=lambda s, mask: softmax(np.where(mask[:, None, :, None], s, -np.inf)))
)
wrong("the mask is not used: padding gets weights, too")(
    variant(weights=lambda s, mask: softmax(s))
)
wrong("the mask is the wrong way round: true is a token")(
    variant(weights=lambda s, mask: at_keys(s, ~mask))
)
wrong("a score of 0 is not −∞: multiplying scores by the mask leaves e⁰ = 1 for padding")(
    variant(weights=lambda s, mask: softmax(s * mask[:, None, None, :]))
)
wrong("adding the mask (0 or 1) to the scores does not hide padding: add −1e30 there")(
    variant(weights=lambda s, mask: softmax(s + mask[:, None, None, :]))
)
wrong("weights of padding are set to 0 after the softmax: the others no longer add up to 1")(
    variant(weights=lambda s, mask: softmax(s) * mask[:, None, None, :])
)
wrong("the softmax runs over the queries (axis 2): each query's weights add up to 1 over the keys")(
    variant(weights=lambda s, mask: softmax(np.where(mask[:, None, None, :], s, -1e30), axis=2))
)
wrong("the division by √D is missing")(variant(scale=lambda D, C: 1))
wrong("the scores are divided by √D, with D channels of a head: this is √C")(
    variant(scale=lambda D, C: 1 / math.sqrt(C))
)
wrong("the scores are divided by √D, not by D")(variant(scale=lambda D, C: 1 / D))
wrong("the scores are multiplied by √D instead of divided")(
    variant(scale=lambda D, C: math.sqrt(D))
)
wrong("a head is a block of neighbouring channels: reshape(B, T, H, D), not (B, T, D, H)")(
    variant(layout=interleaved)
)
wrong("reshape(B, H, T, D) cuts tokens apart: reshape(B, T, H, D), then swap T and H")(
    variant(layout=lambda H: (lambda x: x.reshape(x.shape[0], H, x.shape[1], -1), layout(H)[1]))
)
wrong("the heads are merged without swapping T and H back")(
    variant(layout=lambda H: (layout(H)[0], lambda x: x.reshape(x.shape[0], x.shape[2], -1)))
)
wrong("the values are mixed with the weights transposed: rows are queries, columns keys")(
    variant(mix=lambda a, v: a.swapaxes(2, 3) @ v)
)
wrong("all channels are one head: split them into n_heads")(
    lambda q, k, v, n_heads, mask: masked_attention(q, k, v, 1, mask)
)
wrong("k and v are exchanged")(
    lambda q, k, v, n_heads, mask: masked_attention(q, v, k, n_heads, mask)
)
