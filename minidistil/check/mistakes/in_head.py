"""Mistakes in the heads: pooling, the vocabulary projection, spans, sentence embeddings."""

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake


@mistake(
    "pooled-mean", "pool", values=("real tokens", "all columns", "largest of the real tokens"),
    says="The text is pooled by a mean or maximum over tokens ({}), not by its first token.",
    yours="pooled = mean over {} of h", right="pooled = h[:, 0], the [CLS] token",
    fix="hidden[:, 0] before the classifier's first layer",
)  # fmt: skip
def pooled_mean(h, mask=None, *, value):
    if mask is None or value == "all columns":
        return h.mean(axis=1)
    m = mask[:, :, None]
    if value.startswith("largest"):
        return np.where(m, h, -np.inf).max(axis=1)
    return (h * m).sum(axis=1) / m.sum(axis=1)


@mistake(
    "pooled-last", "pool",
    says="The text is pooled by its last column, not by its first token.",
    yours="pooled = h[:, −1]", right="pooled = h[:, 0], the [CLS] token", fix="hidden[:, 0]",
)  # fmt: skip
def pooled_last(h, mask=None):
    return h[:, -1]


@mistake(
    "head-untied", "projection", values=lambda known: known.foreign,
    says="The vocabulary head has a separate weight instead of the word embeddings.",
    yours="logits = x·W′ᵀ + b,  W′ another table", right="logits = x·wordᵀ + b",
    fix="use the word table itself (in PyTorch the same Parameter, after loading too)",
)  # fmt: skip
def head_untied(x, word, bias, *, value):
    return reference_ops.projection(x, value, bias) if value.shape == word.shape else 0 * x @ word.T


@mistake(
    "bias-missing", "projection",
    says="The vocabulary head's bias is not added.",
    yours="logits = x·wordᵀ", right="logits = x·wordᵀ + b", fix="load the decoder's bias",
)  # fmt: skip
def projection_bias(x, word, bias):
    return reference_ops.projection(x, word, 0 * bias)


@mistake(
    "span-ends-swapped", "spans",
    says="The start and end logits are swapped.",
    yours="start = z[:, :, 1], end = z[:, :, 0]", right="start = z[:, :, 0], end = z[:, :, 1]",
    fix="start is column 0 of the last axis, end is column 1",
)  # fmt: skip
def span_ends_swapped(z):
    start, end = reference_ops.spans(z)
    return end, start


@mistake(
    "mean-over-padding", "text_vector",
    says="The mean over a text's tokens includes the padding.",
    yours="v = Σ h / T over all T columns", right="v = Σ m·h / Σ m,  m the mask",
    fix="multiply by the mask, and divide by the number of real tokens",
)  # fmt: skip
def mean_over_padding(h, mask, *, mode, normalize):
    return reference_ops.text_vector(h, np.ones_like(mask), mode=mode, normalize=normalize)


@mistake(
    "embedding-pooling", "text_vector",
    says="The sentence embedding has the wrong pooling: mean instead of [CLS], or vice versa.",
    yours="h[:, 0] for the mean of h, or the mean for h[:, 0]",
    right="the pooling that 1_Pooling/config.json names",
    fix="use the pooling of the folder's 1_Pooling/config.json",
)  # fmt: skip
def embedding_pooling(h, mask, *, mode, normalize):
    other = "mean" if mode == "cls" else "cls"
    return reference_ops.text_vector(h, mask, mode=other, normalize=normalize)


@mistake(
    "embedding-length", "text_vector",
    says="The sentence embedding is not normalised to length 1, or is without a Normalize module.",
    yours="v for v/|v|, or v/|v| for v", right="modules.json lists Normalize, or does not",
    fix="divide by the norm exactly if modules.json lists Normalize (in PyTorch F.normalize)",
)  # fmt: skip
def embedding_length(h, mask, *, mode, normalize):
    return reference_ops.text_vector(h, mask, mode=mode, normalize=not normalize)
