"""Sentence embeddings: an encoder, pooling of its tokens to one vector, training on pairs.

    mean   v = Σ h / t           over the text's t tokens
    cls    v = h[first token]
    y = v/|v|                    optional; the dot product of two such vectors is their cosine

The encoder and the pooling run on the model's backend. The vectors (B,C) and the losses on them are
computed with NumPy on every backend. Two objectives train on pairs of texts (u, w):

    regression    mean (cos(u, w) − label)²            labels are similarities
    contrastive   cross entropy of 20·cos(uᵢ, wⱼ)      the target of uᵢ is wᵢ; no labels

Sources: Reimers and Gurevych, "Sentence-BERT", 2019, §3; Henderson et al., "Efficient natural
language response suggestion", 2017, §4; the scale is that of sentence-transformers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from minidistil.config.base import BaseConfig
from minidistil.model import network
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.model import Batch, MaybeArray, Model
from minidistil.model.network import Cotangents
from minidistil.model.output import Step
from minidistil.model.rows import Rows, pack, pack_choices
from minidistil.model.sentence.pooling import Pooling
from minidistil.model.taps import SPEC
from minidistil.ops import frugal

SENTENCES = "sentence-embedding"
SCALE = 20.0  # of the cosines, before the softmax over a batch


# ---------------------------------------------------------------- from tokens to a vector


def pool(h: Any, bounds: np.ndarray, pooling: Pooling, n_heads: int, ops: Any) -> tuple[Any, tuple]:
    """h (N,C), bounds (B+1,)  ->  v (B,C), not normalised, cache."""
    if pooling.mode == "cls":
        return ops.embedding.forward(h, ids=bounds[:-1])
    return mean_pool(h, bounds, n_heads, ops)


def pool_backward(dv: Any, cache: tuple, pooling: Pooling, ops: Any) -> Any:
    """dv (B,C)  ->  dh (N,C)."""
    if pooling.mode == "cls":
        return ops.embedding.backward(dv, cache)[0]
    return mean_pool_backward(dv, cache, ops)


def mean_pool(h: Any, bounds: np.ndarray, n_heads: int, ops: Any) -> tuple[Any, tuple]:
    """h (N,C), bounds (B+1,)  ->  v (B,C), the mean of each sequence's rows, cache.

    The mean is attention with queries of zeros: every score is 0, and the softmax of t equal scores
    is 1/t. The attention op computes it on every backend, in parallel and where h is stored.
    """
    queries = ops.place.send(np.zeros((len(bounds) - 1, h.shape[1]), np.float32))
    return ops.attention.forward(
        queries, h, h, bounds=np.arange(len(bounds)), key_bounds=bounds, n_heads=n_heads
    )


def mean_pool_backward(dv: Any, cache: tuple, ops: Any) -> Any:
    """dv (B,C)  ->  dh (N,C): dv/t for each row. The gradient of the keys is zero, as the queries
    are."""
    _, _, dh = ops.attention.backward(dv, cache)
    return dh


def normalise(v: np.ndarray) -> tuple[np.ndarray, tuple]:
    """v (B,C)  ->  v/|v|, cache. A vector of zeros stays zero."""
    with np.errstate(over="ignore"):
        length = np.linalg.norm(v, axis=1, keepdims=True)  # (B,1)
    if not np.isfinite(length).all():  # a square overflowed in float32
        length = np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True).astype(v.dtype)
    length = np.maximum(length, 1e-12)
    y = v / length
    return y, (y, length)


def normalise_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """dy (B,C)  ->  dv (B,C): the part of dy orthogonal to y, divided by |v|."""
    y, length = cache
    return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / length


# ---------------------------------------------------------------- objectives of pairs


PairLoss = tuple[float, np.ndarray, np.ndarray]  # loss, du, dw


def regression(u: np.ndarray, w: np.ndarray, labels: np.ndarray) -> PairLoss:
    """u, w (B,C) of length 1, labels (B,)  ->  loss, du, dw."""
    cosines = (u * w).sum(axis=1)
    dcos = (2 / len(u) * (cosines - labels)).astype(u.dtype)[:, None]  # (B,1)
    return float(np.mean((cosines - labels) ** 2)), dcos * w, dcos * u


def contrastive(u: np.ndarray, w: np.ndarray) -> PairLoss:
    """u, w (B,C) of length 1  ->  loss, du, dw."""
    logits = SCALE * (u @ w.T)  # (B,B)
    loss, cache = SPEC.cross_entropy.forward(logits, labels=np.arange(len(u)))
    ds = SCALE * SPEC.cross_entropy.backward(u.dtype.type(1), cache)[0]  # (B,B)
    return float(loss), ds @ w, ds.T @ u


# ---------------------------------------------------------------- the model


class SentenceModel(Model):
    """An encoder with a Pooling. `forward` and `backward` are those of its bare body."""

    def __init__(self, config: BaseConfig, canonical: Mapping[str, np.ndarray], ops: Any,
                 pooling: Pooling | None = None) -> None:  # fmt: skip
        super().__init__(config, SENTENCES, canonical, ops)
        self.pooling = pooling or Pooling()

    def like(self, config: BaseConfig, canonical: Mapping[str, np.ndarray], ops: Any) -> Self:
        """As `Model.like`, with the same pooling."""
        return SentenceModel(config, canonical, ops, self.pooling)

    def pack(self, input_ids: np.ndarray, attention_mask: MaybeArray = None,
             token_type_ids: MaybeArray = None) -> Rows:  # fmt: skip
        """The rows of texts (B,T), or of pairs of texts (B,2,T), one after another."""
        packed = pack_choices if np.ndim(input_ids) == 3 else pack
        return packed(input_ids, attention_mask, token_type_ids, self.config.architecture)

    def pooled(self, hidden: Any, rows: Rows) -> tuple[np.ndarray, tuple]:
        """h (N,C) of the last layer  ->  v (B,C) in NumPy, not normalised, cache."""
        v, cache = pool(hidden, rows.bounds, self.pooling, self.config.architecture.H, self.ops)
        return self.ops.place.fetch(v), cache

    def vectors(self, result: network.Result, rows: Rows) -> np.ndarray:
        """network.Result  ->  the sentence embeddings (B,C), normalised if the pooling does so."""
        v, _ = self.pooled(result.hidden[-1], rows)
        return normalise(v)[0] if self.pooling.normalize else v

    def counts(self, batch: Batch, counting: Counting = PLAIN) -> dict[str, float]:
        """The number of pairs, which the mean of `gradients` is over."""
        return {"labels": len(batch["input_ids"])}

    @frugal()
    def gradients(self, batch: Batch, train: bool = False, seed: int = 0, step: int = 0,
                  first_sequence: int = 0, counting: Counting = PLAIN) -> Step:  # fmt: skip
        """Pairs (B,2,T), with labels (B,) for regression, without for contrastive  ->  Step.

        The contrastive loss compares a text with all texts of its batch. Micro-batches therefore
        do not add up to the loss of one large batch.
        """
        rows = self.pack(*(batch.get(k) for k in ("input_ids", "attention_mask", "token_type_ids")))
        dropout_state = self.dropout_state(rows, train, seed, step, first_sequence)
        result, cache = network.forward(
            self.canonical(), rows, self.config, self.task, dropout_state, self.ops
        )
        v, pooled = self.pooled(result.hidden[-1], rows)
        y, length = normalise(v)
        loss, dy = pairs_loss(y, rows, batch.get("labels"))

        share = counting.shares["labels"]
        dv = normalise_backward(dy.dtype.type(share) * dy, length)
        dv = self.ops.place.send(np.ascontiguousarray(dv, v.dtype))
        dh = pool_backward(dv, pooled, self.pooling, self.ops)
        d = Cotangents((*(None,) * (len(result.hidden) - 1), dh))
        grads = self.public(network.backward(d, cache, self.ops, release=True))
        return Step(share * loss, {}, grads)

    def save_pretrained(self, folder: str | Path, dtype: str = "float32") -> None:
        """As `Model.save_pretrained`, with the files that sentence-transformers reads."""
        self.pooling.write(folder, self.config.architecture.C)
        super().save_pretrained(folder, dtype)  # config.json last: it makes the folder a model


def length_of(model: Any) -> int | None:
    """The largest number of tokens that a SentenceModel's folder sets; None for any other model."""
    return model.pooling.max_length if isinstance(model, SentenceModel) else None


def pairs_loss(y: np.ndarray, rows: Rows, labels: MaybeArray) -> tuple[float, np.ndarray]:
    """y (2B,C), the two texts of a pair in adjacent rows  ->  loss, dy (2B,C)."""
    if rows.choices != 2:
        raise ValueError("sentence embeddings are trained on pairs of texts: input_ids (B,2,T)")
    u, w = y[0::2], y[1::2]
    loss, du, dw = contrastive(u, w) if labels is None else regression(u, w, labels)
    return loss, np.stack([du, dw], axis=1).reshape(y.shape)
