"""Mistakes in sentence embeddings beside those of `in_head`: the divisor, other poolings."""

import numpy as np

from minidistil.check.mistakes.registry import mistake

RIGHT = "the pooling that 1_Pooling/config.json names: v = Σ m·h / Σ m, or h[:, 0]"


def _normalised(v, normalize):
    return v / np.linalg.norm(v, axis=1, keepdims=True) if normalize else v


@mistake(
    "mean-divisor", "text_vector", values=("T, the number of columns", "1: a sum"),
    says="The sum over a text's tokens is divided by {}, not by the number of its tokens.",
    yours="v = Σ m·h / {}", right=RIGHT,
    fix="divide by the number of real tokens of each text, attention_mask.sum(1)",
)  # fmt: skip
def mean_divisor(h, mask, *, mode, normalize, value):
    total = (h * mask[:, :, None]).sum(axis=1)
    return _normalised(total / (1 if value == "1: a sum" else h.shape[1]), normalize)


OTHER = {
    "the largest of each channel, over the real tokens": lambda h, m: np.where(m, h, -np.inf).max(
        1
    ),
    "the largest of each channel, over all columns": lambda h, m: h.max(axis=1),
    "the last column": lambda h, m: h[:, -1],
    "the last real token": lambda h, m: h[np.arange(len(h)), m[:, :, 0].sum(axis=1) - 1],
    "the mean without the first token": lambda h, m: (
        (h * m)[:, 1:].sum(axis=1) / np.maximum(m[:, 1:].sum(axis=1), 1)
    ),
}


@mistake(
    "embedding-pooled-otherwise", "text_vector", values=tuple(OTHER),
    says="The sentence embedding is {}.",
    yours="v = {}", right=RIGHT, fix="use the pooling of the folder's 1_Pooling/config.json",
)  # fmt: skip
def pooled_otherwise(h, mask, *, mode, normalize, value):
    return _normalised(OTHER[value](h, mask[:, :, None]), normalize)
