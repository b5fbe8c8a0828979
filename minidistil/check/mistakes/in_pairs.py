"""Mistakes in encoder–decoders: cross attention's source and mask, a block's order, targets."""

import numpy as np

from minidistil.check.families.family_ops import cross_block
from minidistil.check.mistakes import in_attention
from minidistil.check.mistakes.registry import mistake
from minidistil.check.reference_ops import softmax

SOURCE = "k, v = K(m), V(m),  m the encoder's last hidden states"


@mistake(
    "cross-source", "cross_source", values=("all its columns", "its real tokens"),
    says="Cross attention's keys and values are those of the decoder, not of the encoder ({}).",
    yours="k, v = K(u), V(u),  u the decoder's states", right=SOURCE,
    fix="pass the encoder's output: queries of u, keys and values of the memory",
)  # fmt: skip
def cross_source_decoder(u, memory, mask, *, encoder, target_mask, value):
    return u, target_mask if value == "its real tokens" else np.ones_like(target_mask)


@mistake(
    "cross-source-layer", "cross_source",
    values=("the embeddings", "the layer before the last", "the first layer"),
    says="Cross attention reads another hidden state of the encoder: {}.",
    yours="m = {} of the encoder", right=SOURCE, fix="the output of the encoder's last layer",
)  # fmt: skip
def cross_source_layer(u, memory, mask, *, encoder, target_mask, value):
    number = {"the embeddings": 0, "the layer before the last": -2, "the first layer": 1}[value]
    return encoder[number], mask


WEIGHTS = "a = softmax over the source's tokens, with −∞ at its padding"


@mistake(
    "cross-mask-ignored", "cross_weights",
    says="Cross attention ignores the source's mask: targets attend to its padding.",
    yours="a = softmax(s)", right=WEIGHTS,
    fix="pass the encoder's attention_mask to every cross attention",
)  # fmt: skip
def cross_mask_ignored(s, mask):
    return softmax(s)


@mistake(
    "cross-mask-inverted", "cross_weights", values=(-np.inf, np.finfo(np.float64).min, -1e9, -1e4),
    says="The source's mask is inverted in cross attention: all weight falls on padding.",
    yours="a = softmax(s with −∞ at the tokens)", right=WEIGHTS,
    fix="mask where attention_mask == 0 (PyTorch's key_padding_mask is True there)",
)  # fmt: skip
def cross_mask_inverted(s, mask, *, value):
    return softmax(np.where(mask[:, None, None, :], value, s))


@mistake(
    "cross-mask-causal", "cross_weights", values=("and the source's", "alone"),
    says="Cross attention is causal: a target does not attend to later columns of the source.",
    yours="a = softmax(s with −∞ where key > query), this mask {}", right=WEIGHTS,
    fix="the causal mask belongs to the decoder's self-attention",
)  # fmt: skip
def cross_mask_causal(s, mask, *, value):
    seen = np.tri(*s.shape[2:], dtype=bool)[None, None]
    seen = seen if value == "alone" else seen & mask[:, None, None, :]
    return softmax(np.where(seen, s, np.finfo(np.float64).min))


@mistake(
    "cross-mask-multiplied", "cross_weights", values=("the scores", "the weights"),
    says="The source's mask multiplies {} of cross attention.",
    yours="{} ⊙ mask", right=WEIGHTS, fix="set the scores of padded keys to −∞ before the softmax",
)  # fmt: skip
def cross_mask_multiplied(s, mask, *, value):
    return in_attention.mask_multiplied(s, mask, value=value)


@mistake(
    "cross-mask-too-weak", "cross_weights", values=(-1.0, -2.0, -5.0, -10.0, -20.0, -30.0),
    says="The source's mask only adds {} to the scores of its padding.",
    yours="a = softmax(s + {}·(1 − mask))", right=WEIGHTS,
    fix="add the dtype's lowest number, or fill with it (torch.finfo(scores.dtype).min)",
)  # fmt: skip
def cross_mask_too_weak(s, mask, *, value):
    return in_attention.mask_too_weak(s, mask, value=value)


@mistake(
    "cross-softmax-axis", "cross_weights", values=("queries", "heads"),
    says="Cross attention's softmax runs over the {}.",
    yours="a = softmax over the {}", right=WEIGHTS,
    fix="softmax over the last axis of (B,H,queries,keys)",
)  # fmt: skip
def cross_softmax_axis(s, mask, *, value):
    return in_attention.softmax_axis(s, mask, value=value)


BLOCK = "u = LN(x + self(x)),  w = LN(u + cross(u, m)),  y = LN(w + ffn(w))"


@mistake(
    "cross-attention-missing", "cross_block",
    values=("with its LayerNorm", "and its LayerNorm"),
    says="Cross attention is missing ({}): the target does not depend on the source.",
    yours="y = LN(u + ffn(u))", right=BLOCK, fix="call the cross attention in every decoder block",
)  # fmt: skip
def cross_missing(x, attend, cross, feed, norms, residual, *, value):
    norm1, norm2, norm3 = norms
    u = norm1(residual(x, attend(x), "attention_sum"))
    w = norm2(u) if value.startswith("with") else u
    return norm3(residual(w, feed(w), "output_sum"))


@mistake(
    "cross-attention-first", "cross_block",
    says="Cross attention precedes self-attention.",
    yours="u = LN(x + cross(x, m)),  w = LN(u + self(u))", right=BLOCK,
    fix="self-attention, cross attention, feed-forward",
)  # fmt: skip
def cross_first(x, attend, cross, feed, norms, residual):
    norm1, norm2, norm3 = norms
    u = norm2(residual(x, cross(x), "cross_sum"))
    w = norm1(residual(u, attend(u), "attention_sum"))
    return norm3(residual(w, feed(w), "output_sum"))


@mistake(
    "cross-residual", "cross_block",
    says="Cross attention's residual is not u, but the block's input x.",
    yours="w = LN(x + cross(u, m))", right=BLOCK, fix="w = LN(u + cross(u, m))",
)  # fmt: skip
def cross_residual(x, attend, cross, feed, norms, residual):
    norm1, norm2, norm3 = norms
    u = norm1(residual(x, attend(x), "attention_sum"))
    w = norm2(residual(x, cross(u), "cross_sum"))
    return norm3(residual(w, feed(w), "output_sum"))


@mistake(
    "pre-norm", "cross_block",
    says="LayerNorm precedes the sublayers instead of following the sums.",
    yours="u = x + self(LN(x)),  w = u + cross(LN(u), m),  y = w + ffn(LN(w))", right=BLOCK,
    fix="post-norm: add the residual, then normalise the sum (in PyTorch norm_first=False)",
)  # fmt: skip
def cross_pre_norm(x, attend, cross, feed, norms, residual):
    norm1, norm2, norm3 = norms
    u = residual(x, attend(norm1(x)), "attention_sum")
    w = residual(u, cross(norm2(u)), "cross_sum")
    return residual(w, feed(norm3(w)), "output_sum")


@mistake(
    "cross-norms-swapped", "cross_block",
    values=("cross and output", "self and cross", "self and output"),
    says="Two LayerNorms of the decoder's block are swapped: {}.",
    yours="each LN with the other's γ and β", right=BLOCK,
    fix="attention.output, crossattention.output, output: the order of their LayerNorms",
)  # fmt: skip
def cross_norms_swapped(x, attend, cross, feed, norms, residual, *, value):
    order = {
        "cross and output": (0, 2, 1),
        "self and cross": (1, 0, 2),
        "self and output": (2, 1, 0),
    }
    return cross_block(x, attend, cross, feed, [norms[i] for i in order[value]], residual)


TARGETS = "decoder_input_ids = start, label₁, label₂, …, without the last label"


def _filled(labels, pad):
    return np.where(labels < 0, pad, labels)


def _shifted(ids, start):
    return np.concatenate([np.full_like(ids[:, :1], start), ids[:, :-1]], axis=1)


@mistake(
    "targets-not-shifted", "decoder_ids",
    says="The decoder's inputs are the labels themselves: each token is given the answer.",
    yours="decoder_input_ids = labels", right=TARGETS,
    fix="shift the labels to the right, and begin with decoder_start_token_id",
)  # fmt: skip
def targets_not_shifted(ids, labels, *, pad, start, end):
    return _filled(labels, pad)


@mistake(
    "targets-shifted-twice", "decoder_ids", values=("the start token", "padding"),
    says="The decoder's inputs are shifted twice.",
    yours="decoder_input_ids = {}, start, label₁, …", right=TARGETS,
    fix="decoder_input_ids are shifted already: shift labels alone, once",
)  # fmt: skip
def targets_shifted_twice(ids, labels, *, pad, start, end, value):
    return _shifted(ids, start if value == "the start token" else pad)


@mistake(
    "targets-shifted-left", "decoder_ids",
    says="The decoder's inputs are the labels shifted to the left.",
    yours="decoder_input_ids = label₂, label₃, …, padding", right=TARGETS,
    fix="input t is label t − 1",
)  # fmt: skip
def targets_shifted_left(ids, labels, *, pad, start, end):
    filled = _filled(labels, pad)
    return np.concatenate([filled[:, 1:], np.full_like(filled[:, :1], pad)], axis=1)


@mistake(
    "targets-start-token", "decoder_ids",
    values=("the padding id", "the end token", "the last column", 0, 1, 2, 3, 101, 102),
    says="Targets begin with the wrong token: {}.",
    yours="decoder_input_ids = {}, label₁, label₂, …", right=TARGETS,
    fix="config.decoder_start_token_id of the folder",
)  # fmt: skip
def targets_start(ids, labels, *, pad, start, end, value):
    wrong = {"the padding id": pad, "the end token": np.ravel(end)[0]}.get(value, value)
    if value == "the last column":
        wrong = _filled(labels, pad)[:, -1]
    ids = ids.copy()
    ids[:, 0] = wrong
    return ids
