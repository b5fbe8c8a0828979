"""Mistakes in causal attention: the mask of later tokens, and padding beside it."""

import numpy as np

from minidistil.check.families.family_ops import causal_weights
from minidistil.check.mistakes.in_attention import multiplied, softmax_over
from minidistil.check.mistakes.registry import mistake
from minidistil.check.reference_ops import softmax

RIGHT = "a = softmax(s with −∞ where key > query, and at padding)"


def _seen(s, mask, diagonal=0):
    """(B,1,T,T) bool: real keys up to a diagonal above the query's column."""
    return np.tri(*s.shape[2:], diagonal, dtype=bool) & mask[:, None, None, :]


@mistake(
    "causal-mask-missing", "causal_weights", values=("a mask for padding alone", "no mask at all"),
    says="Attention is not causal: a token attends to later tokens ({}).",
    yours="a = softmax(s with −∞ at padding, at most)", right=RIGHT,
    fix="a lower triangular mask (in PyTorch tril, or is_causal=True)",
)  # fmt: skip
def causal_mask_missing(s, mask, *, value):
    return softmax(s if value == "no mask at all" else np.where(mask[:, None, None, :], s, -np.inf))


SHIFTED = {
    "one later token is seen": (1, -np.inf),
    "a token does not see itself, −∞": (-1, -np.inf),
    "a token does not see itself, the dtype's minimum": (-1, np.finfo(np.float64).min),
    "a token does not see itself, −1e9": (-1, -1e9),
    "a token does not see itself, −1e4": (-1, -1e4),
}


@mistake(
    "causal-mask-shifted", "causal_weights", values=tuple(SHIFTED),
    says="The causal mask is shifted by one: {}.",
    yours="−∞ where key > query + 1, or where key ≥ query", right=RIGHT,
    fix="keep the diagonal: tril(0) is kept, triu(1) is hidden",
)  # fmt: skip
def causal_mask_shifted(s, mask, *, value):
    diagonal, hidden = SHIFTED[value]
    return softmax(np.where(_seen(s, mask, diagonal), s, hidden))


@mistake(
    "causal-mask-reversed", "causal_weights", values=("−∞", "the dtype's minimum"),
    says="The causal mask is transposed: a token attends to later tokens and not to earlier ones.",
    yours="{} where key < query", right=RIGHT,
    fix="the lower triangle (tril), not the upper: rows are queries",
)  # fmt: skip
def causal_mask_reversed(s, mask, *, value):
    hidden = -np.inf if value == "−∞" else np.finfo(np.float64).min
    later = np.tri(s.shape[2], dtype=bool).T & mask[:, None, None, :]
    return softmax(np.where(later | np.eye(s.shape[2], dtype=bool), s, hidden))


@mistake(
    "causal-mask-inverted", "causal_weights", values=(-np.inf, np.finfo(np.float64).min, -1e9),
    says="The causal mask is inverted: what it should keep is hidden.",
    yours="−∞ where key ≤ query", right=RIGHT,
    fix="−∞ above the diagonal (in PyTorch, scaled_dot_product_attention's boolean mask is True at "
    "what is kept, nn.MultiheadAttention's attn_mask at what is hidden)",
)  # fmt: skip
def causal_mask_inverted(s, mask, *, value):
    return softmax(np.where(np.tri(s.shape[2], dtype=bool), value, s))


@mistake(
    "causal-mask-multiplied", "causal_weights", values=("the scores", "the weights"),
    says="The causal mask multiplies {}.",
    yours="{} ⊙ mask: a score of 0 still has weight e⁰, and masked weights no longer sum to 1",
    right=RIGHT, fix="set the scores of later keys to −∞ before the softmax",
)  # fmt: skip
def causal_mask_multiplied(s, mask, *, value):
    return multiplied(s, _seen(s, mask), value)


WEAK = tuple(
    (value, padding)
    for value in (-0.1, -1.0, -2.0, -5.0, -10.0, -20.0, -30.0)
    for padding in ("hidden", "seen", "as weak")
)


@mistake(
    "causal-mask-too-weak", "causal_weights", values=WEAK,
    says="The causal mask only adds a small number to the scores of later tokens, which keeps some "
    "weight.",
    yours="a = softmax(s + c·(key > query)),  c between −0.1 and −30", right=RIGHT,
    fix="add the dtype's lowest number, or fill with it (torch.finfo(scores.dtype).min)",
)  # fmt: skip
def causal_mask_too_weak(s, mask, *, value):
    added, padding = value
    later = ~np.tri(s.shape[2], dtype=bool)
    s = s + np.where(later, added, 0.0)
    real = mask[:, None, None, :]
    if padding == "seen":
        return softmax(s)
    if padding == "as weak":
        return softmax(s + np.where(later | real, 0.0, added))
    return softmax(np.where(real, s, -np.inf))


@mistake(
    "mask-ignored", "causal_weights",
    says="The mask of padding is ignored: a token attends to padding before it.",
    yours="a = softmax(s with −∞ where key > query)", right=RIGHT,
    fix="combine both masks, on (B,1,T,T): the triangle and attention_mask[:, None, None, :]",
)  # fmt: skip
def padding_ignored(s, mask):
    return softmax(np.where(np.tri(s.shape[2], dtype=bool), s, -np.inf))


@mistake(
    "softmax-axis", "causal_weights", values=("queries", "heads"),
    says="Softmax runs over the {}.",
    yours="a = softmax over the {}", right=RIGHT,
    fix="softmax over the last axis of (B,H,queries,keys)",
)  # fmt: skip
def softmax_axis(s, mask, *, value):
    return softmax_over(s, _seen(s, mask), value)


@mistake(
    "softmax-twice", "causal_weights",
    says="Softmax is applied twice.",
    yours="a = softmax(softmax(s))", right=RIGHT, fix="apply softmax once",
)  # fmt: skip
def softmax_twice(s, mask):
    return softmax(np.where(_seen(s, mask), causal_weights(s, mask), -np.inf))
