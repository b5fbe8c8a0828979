"""Vectors of whole texts: the tokens of a text become one vector, to be compared with others'.

    mean   v = Σ h / t           over the text's t tokens
    cls    v = h[first token]
    then, where the folder says so, v/|v|: the product of two such vectors is their cosine

The mean is attention whose every score is 0, so that all t tokens weigh the same; the op that is
there gives it on every backend, and its gradient. What follows the mean is one vector a text, and
NumPy's whatever the backend. Two objectives train on pairs of texts (u, w):

    regression    mean (cos(u, w) − label)²            labels are similarities
    contrastive   cross entropy of 20·cos(uᵢ, wⱼ)      no labels: wᵢ is the right one of the batch

Sources: Reimers and Gurevych, "Sentence-BERT", 2019, §3; Henderson et al., "Efficient natural
language response suggestion", 2017, §4; the scale is that of sentence-transformers.
"""

import numpy as np

from minidistil.model import network
from minidistil.model.label_counts import PLAIN
from minidistil.model.model import Model
from minidistil.model.network import Cotangents
from minidistil.model.output import Step
from minidistil.model.rows import pack, pack_choices
from minidistil.model.sentence.pooling import Pooling
from minidistil.model.taps import SPEC
from minidistil.ops import frugal

SENTENCES = "sentence-embedding"
SCALE = 20.0  # of the cosines, before the softmax over a batch


# ---------------------------------------------------------------- from tokens to a vector


def pool(h, bounds, pooling, n_heads, ops):
    """h (N,C), bounds (B+1,)  ->  v (B,C), not normalised, cache."""
    first, gather = ops.embedding.forward(h, ids=bounds[:-1])
    if pooling.mode == "cls":
        return first, gather
    nothing = ops.place.zeros_like(first)  # a query of zeros likes every key equally
    return ops.attention.forward(
        nothing, h, h, bounds=np.arange(len(bounds)), key_bounds=bounds, n_heads=n_heads
    )


def pool_backward(dv, cache, pooling, ops):
    """dv (B,C)  ->  dh (N,C)."""
    if pooling.mode == "cls":
        return ops.embedding.backward(dv, cache)[0]
    _, _, dh = ops.attention.backward(dv, cache)  # the keys are met by zeros: no gradient
    return dh


def normalise(v):
    """v (B,C)  ->  v/|v|, cache; a vector of zeros stays one."""
    with np.errstate(over="ignore"):
        length = np.linalg.norm(v, axis=1, keepdims=True)  # (B,1)
    if not np.isfinite(length).all():  # squares beyond float32 of numbers that are not
        length = np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True).astype(v.dtype)
    length = np.maximum(length, 1e-12)
    y = v / length
    return y, (y, length)


def normalise_backward(dy, cache):
    """dy (B,C)  ->  dv (B,C): what points along y would change the length alone."""
    y, length = cache
    return (dy - y * (dy * y).sum(axis=1, keepdims=True)) / length


# ---------------------------------------------------------------- objectives of pairs


def regression(u, w, labels):
    """u, w (B,C) of length 1, labels (B,)  ->  loss, du, dw."""
    cosines = (u * w).sum(axis=1)
    dcos = (2 / len(u) * (cosines - labels)).astype(u.dtype)[:, None]  # (B,1)
    return float(np.mean((cosines - labels) ** 2)), dcos * w, dcos * u


def contrastive(u, w):
    """u, w (B,C) of length 1  ->  loss, du, dw."""
    logits = SCALE * (u @ w.T)  # (B,B)
    loss, cache = SPEC.cross_entropy.forward(logits, labels=np.arange(len(u)))
    ds = SCALE * SPEC.cross_entropy.backward(u.dtype.type(1), cache)[0]  # (B,B)
    return float(loss), ds @ w, ds.T @ u


# ---------------------------------------------------------------- the model


class SentenceModel(Model):
    """An encoder with a Pooling. `forward` and `backward` are those of its bare body."""

    def __init__(self, config, canonical, ops, pooling=None):
        super().__init__(config, SENTENCES, canonical, ops)
        self.pooling = pooling or Pooling()

    def with_ops(self, ops):
        """The same parameters behind another backend."""
        return SentenceModel(self.config, self.named_by_role(), ops, self.pooling)

    def pack(self, input_ids, attention_mask=None, token_type_ids=None):
        """The rows of texts (B,T), or of pairs of texts (B,2,T), one after another."""
        packed = pack_choices if np.ndim(input_ids) == 3 else pack
        return packed(input_ids, attention_mask, token_type_ids, self.config.architecture)

    def pooled(self, hidden, rows):
        """h (N,C) of the last layer  ->  v (B,C) in NumPy, not normalised, cache."""
        v, cache = pool(hidden, rows.bounds, self.pooling, self.config.architecture.H, self.ops)
        return self.ops.place.fetch(v), cache

    def vectors(self, result, rows):
        """network.Result  ->  what the texts are compared by (B,C), in NumPy."""
        v, _ = self.pooled(result.hidden[-1], rows)
        return normalise(v)[0] if self.pooling.normalize else v

    @frugal()
    def learn(self, rows, losses, dropout_state=None):
        """One training step  ->  Step.

        losses: the texts' vectors (B,C), of length 1  ->  loss, parts, its gradient (B,C).
        """
        result, cache = network.forward(
            self.canonical(), rows, self.config, self.task, dropout_state, self.ops
        )
        v, pooled = self.pooled(result.hidden[-1], rows)
        y, length = normalise(v)
        loss, parts, dy = losses(y)
        dv = self.ops.place.send(np.ascontiguousarray(normalise_backward(dy, length), v.dtype))
        dh = pool_backward(dv, pooled, self.pooling, self.ops)
        d = Cotangents((*(None,) * (len(result.hidden) - 1), dh))
        return Step(loss, parts, self.public(network.backward(d, cache, self.ops, release=True)))

    def counts(self, batch, counting=PLAIN):
        """What the mean of `gradients` is over: the pairs."""
        return {"labels": len(batch["input_ids"])}

    def gradients(self, batch, train=False, seed=0, step=0, first_sequence=0, counting=PLAIN):
        """Pairs (B,2,T), with labels (B,) for regression, without for contrastive  ->  Step.

        A contrastive loss looks for a text's partner in its own batch, so that of several
        micro-batches is not that of one large batch, whatever each counts for.
        """
        rows = self.pack(*(batch.get(k) for k in ("input_ids", "attention_mask", "token_type_ids")))
        dropout_state = self.dropout_state(rows, train, seed, step, first_sequence)
        share = counting.shares["labels"]

        def losses(y):
            loss, parts, dy = pairs_loss(y, rows, batch.get("labels"))
            return share * loss, parts, dy.dtype.type(share) * dy

        return self.learn(rows, losses, dropout_state)

    def save_pretrained(self, folder, dtype="float32"):
        """As `Model.save_pretrained`, with the files that sentence-transformers reads."""
        self.pooling.write(folder, self.config.architecture.C)
        super().save_pretrained(folder, dtype)  # last: without config.json there is no model


def length_of(model):
    """The tokens that a SentenceModel's folder says it reads; None where it says nothing."""
    return model.pooling.max_length if isinstance(model, SentenceModel) else None


def pairs_loss(y, rows, labels):
    """y (2B,C), the texts of a pair one after the other  ->  loss, {}, dy (2B,C)."""
    if rows.choices != 2:
        raise ValueError("sentence embeddings are trained on pairs of texts: input_ids (B,2,T)")
    u, w = y[0::2], y[1::2]
    loss, du, dw = contrastive(u, w) if labels is None else regression(u, w, labels)
    return loss, {}, np.stack([du, dw], axis=1).reshape(y.shape)
