"""Mistakes in attention: the scale, the mask, the axis, the heads."""

import math

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake

SCORES = "s = q·kᵀ/√D,  D = C/H"
WEIGHTS = "a = softmax over the keys of s, with −∞ at the keys that are padding"


@mistake(
    "scale-missing", "scores",
    says="The scores are not divided by √D.",
    yours="s = q·kᵀ", right=SCORES, fix="divide by √head_dim",
)  # fmt: skip
def scale_missing(q, k):
    return q @ k.swapaxes(2, 3)


@mistake(
    "scale-wrong-dim", "scores", values=("√C", "C", "√H"),
    says="The scores are divided by {}, not by the root of one head's dimension.",
    yours="s = q·kᵀ/{}", right=SCORES,
    fix="divide by √head_dim, where head_dim = dim/n_heads",
)  # fmt: skip
def scale_wrong_dim(q, k, *, value):
    H, D = q.shape[1], q.shape[3]
    return scale_missing(q, k) / {"√C": math.sqrt(H * D), "C": H * D, "√H": math.sqrt(H)}[value]


@mistake(
    "scale-twice", "scores",
    says="The scores are divided by √D twice, or by D.",
    yours="s = (q/√D)·kᵀ/√D", right=SCORES,
    fix="scale the queries or the scores, not both (PyTorch's scaled_dot_product_attention scales)",
)  # fmt: skip
def scale_twice(q, k):
    return scale_missing(q, k) / q.shape[3]


@mistake(
    "qk-swapped", "scores",
    says="Queries and keys are swapped.",
    yours="s = k·qᵀ/√D", right=SCORES, fix="q @ k.transpose(-2, -1), each with its own weights",
)  # fmt: skip
def qk_swapped(q, k):
    return reference_ops.scores(k, q)


def _add(value, mask):
    """An additive mask (B,1,1,T): 0 at tokens, `value` at padding."""
    return np.where(mask, 0.0, value)[:, None, None, :]


INVERTED = {"filled": -1e9, "added": -1e4, "filled with −∞": -np.inf,
            "filled with −∞, and weights of 0 where no key is left": -np.inf}  # fmt: skip


@mistake(
    "mask-inverted", "weights", values=tuple(INVERTED),
    says="The mask is inverted, or added with the wrong sign: all attention weight falls on "
    "padding ({}).",
    yours="a = softmax(s with −∞ at the tokens)", right=WEIGHTS,
    fix="mask where attention_mask == 0; PyTorch's key_padding_mask is True at padding, "
    "scaled_dot_product_attention's boolean mask is True at tokens",
)  # fmt: skip
def mask_inverted(s, mask=None, *, value):
    if value == "added":
        return reference_ops.softmax(s + _add(INVERTED[value], ~mask))
    weights = reference_ops.softmax(np.where(mask[:, None, None, :], INVERTED[value], s))
    return np.nan_to_num(weights) if value.endswith("left") else weights


@mistake(
    "mask-multiplied", "weights", values=("the scores", "the weights"),
    says="The mask multiplies {}.",
    yours="{} ⊙ mask: a score of 0 still has weight e⁰, and masked weights no longer sum to 1",
    right=WEIGHTS, fix="set the scores of padded keys to −∞ before the softmax",
)  # fmt: skip
def mask_multiplied(s, mask=None, *, value):
    return multiplied(s, mask[:, None, None, :], value)


def multiplied(s, seen, what):
    """Weights of scores s (B,H,T_q,T_k) where the mask, 0 or 1, multiplies `what`."""
    softmax = reference_ops.softmax
    return softmax(s * seen) if what == "the scores" else softmax(s) * seen


@mistake(
    "mask-too-weak", "weights", values=(-0.1, -1.0, -2.0, -3.0, -5.0, -10.0, -20.0, -30.0),
    says="The mask only adds {} to the scores of padding, which keeps some weight.",
    yours="a = softmax(s + {}·(1 − mask))", right=WEIGHTS,
    fix="add the dtype's lowest number, or fill with it (torch.finfo(scores.dtype).min); a float "
    "mask is added, so that it is 0 and −∞, not 1 and 0",
)  # fmt: skip
def mask_too_weak(s, mask=None, *, value):
    return reference_ops.softmax(s + _add(value, mask))


FAVOURED = {"1": 1.0, "10": 10.0, "the largest float32": float(np.finfo(np.float32).max)}


@mistake(
    "mask-float", "weights", values=tuple(FAVOURED),
    says="A float mask adds {} to the scores of padding.",
    yours="a = softmax(s + {}·(1 − mask))", right=WEIGHTS,
    fix="a float mask is added to the scores: 0 at tokens, −∞ at padding; a boolean one is True at "
    "padding in key_padding_mask",
)  # fmt: skip
def mask_float(s, mask=None, *, value):
    return reference_ops.softmax(s + _add(FAVOURED[value], mask))


@mistake(
    "mask-everything", "weights", values=("0", "the mean"),
    says="The mask removes every key; the context is {}.",
    yours="a = softmax(−∞ at every key)", right=WEIGHTS, fix="mask where attention_mask == 0",
)  # fmt: skip
def mask_everything(s, mask=None, *, value):
    return 0 * s if value == "0" else 0 * s + 1 / s.shape[3]


@mistake(
    "mask-ignored", "weights",
    says="The mask is ignored: tokens attend to padding.",
    yours="a = softmax(s)", right=WEIGHTS,
    fix="pass attention_mask to every layer, and mask the keys (the last axis of the scores)",
)  # fmt: skip
def mask_ignored(s, mask=None):
    return reference_ops.softmax(s)


@mistake(
    "causal-mask", "weights",
    says="Attention is causal: a token does not attend to later tokens.",
    yours="a = softmax(s with −∞ where key > query)", right=WEIGHTS,
    fix="no triangular mask (in PyTorch is_causal=False): BERT is bidirectional",
)  # fmt: skip
def causal(s, mask=None):
    allowed = np.tri(s.shape[2], dtype=bool)
    if mask is not None:
        allowed = allowed & mask[:, None, None, :]
    allowed = allowed | np.eye(s.shape[2], dtype=bool)  # padding on the left attends to itself
    return reference_ops.softmax(np.where(allowed, s, -np.inf))


@mistake(
    "softmax-axis", "weights", values=("queries", "heads"),
    says="Softmax runs over the {}.",
    yours="a = softmax over the {}", right=WEIGHTS,
    fix="softmax over the last axis of (B,H,queries,keys)",
)  # fmt: skip
def softmax_axis(s, mask=None, *, value):
    return softmax_over(s, True if mask is None else mask[:, None, None, :], value)


def softmax_over(s, seen, axis):
    """Masked scores s (B,H,T_q,T_k) through a softmax over the queries or the heads."""
    masked = np.where(seen, s, np.finfo(s.dtype).min)
    return reference_ops.softmax(masked, axis={"queries": 2, "heads": 1}[axis])


@mistake(
    "softmax-not-normalised", "softmax", values=("exp(s)", "the maximum is not subtracted again"),
    says="Softmax does not divide by the sum.",
    yours="{}", right="a = exp(s − max)/Σ exp(s − max)", fix="divide by the sum over the last axis",
)  # fmt: skip
def not_normalised(s, axis=-1, *, value):
    return np.exp(s if value == "exp(s)" else s - s.max(axis=axis, keepdims=True))


@mistake(
    "softmax-axis", "softmax", values=(0, 1, -2),
    says="Softmax runs over axis {}.",
    yours="a = softmax over axis {}", right="over the last axis", fix="softmax over the last axis",
)  # fmt: skip
def softmax_axis_of_rows(s, axis=-1, *, value):
    return reference_ops.softmax(s, axis=value)


def _interleaved(n_heads):
    """Interleaved channels: channel c belongs to head c mod H."""

    def split(x):
        return x.reshape(*x.shape[:2], -1, n_heads).transpose(0, 3, 1, 2)

    def merge(x):
        return x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1)

    return split, merge


def _unmoved(n_heads):
    """A reshape without the swap of axes."""

    def split(x):
        return x.reshape(x.shape[0], n_heads, x.shape[1], -1)

    def merge(x):
        return x.reshape(x.shape[0], x.shape[2], -1)

    return split, merge


HEADS = {
    "split and merged as (D,H)": (_interleaved, _interleaved),
    "split as (D,H)": (_interleaved, reference_ops.heads),
    "merged as (D,H)": (reference_ops.heads, _interleaved),
    "split and merged by reshape, without swapping axes": (_unmoved, _unmoved),
    "split by reshape, without swapping axes": (_unmoved, reference_ops.heads),
    "merged by reshape, without swapping axes": (reference_ops.heads, _unmoved),
}


@mistake(
    "head-order", "heads", values=tuple(HEADS),
    says="Channels are assigned to the wrong heads: {}.",
    yours="{}", right="(B,T,C) → view (B,T,H,D) → transpose (B,H,T,D), and the inverse to merge",
    fix="reshape to (B,T,H,D), then swap axes 1 and 2; back: swap them, then reshape to (B,T,C)",
)  # fmt: skip
def head_order(n_heads, *, value):
    split, merge = HEADS[value]
    return split(n_heads)[0], merge(n_heads)[1]
