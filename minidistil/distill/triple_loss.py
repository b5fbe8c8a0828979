"""The triple loss of DistilBERT and its gradients, for a language model on rows.

z_s, z_t (M,V) are the logits of student and teacher over the vocabulary, h_s, h_t (N,C) their last
hidden states. Row n of the logits has a label, or −100 where it has none.

    ce    τ²·mean KL(softmax(z_t/τ) ‖ softmax(z_s/τ))       the teacher's soft targets
    mlm   mean over the labelled rows of −ln softmax(z_s)   the text's own words
    mse   Σ (z_s − z_t)² / M                                the teacher's logits
    cos   mean (1 − cos(h_s, h_t))                          the directions of its hidden states

    loss = α_ce·ce + α_mlm·mlm + α_mse·mse + α_cos·cos

The gradient of α·ce is α·τ·(softmax(z_s/τ) − softmax(z_t/τ))/M, of α·mlm it is
α·(softmax(z_s) − onehot(label)) over the number of labels. The op `vocabulary` computes the three
losses of the logits with their gradients a few rows at a time, so that z_s and z_t never exist as
whole arrays; `cosine` computes the fourth.
Source: Hugging Face's `Distiller.step`, value for value; Sanh et al., "DistilBERT", 2019, §2.
"""

from typing import NamedTuple

import numpy as np

from minidistil.distill.conventions import SoftTargets
from minidistil.distill.teachers import TeacherOutputs
from minidistil.model.network import Cotangents, Result


class Alphas(NamedTuple):
    """Weights of the four losses. `mlm` is that of the labels: masked or next words."""

    ce: float
    mlm: float
    mse: float
    cos: float


def weighted_sum(parts: dict, alphas: Alphas) -> float:
    """{loss: value}, of which those of weight 0 may be missing  ->  the triple loss."""
    ce, mlm, mse, cos = (parts.get(name, 0.0) for name in Alphas._fields)
    return alphas.ce * ce + alphas.mlm * mlm + alphas.mse * mse + alphas.cos * cos


def losses(
    student: Result, teacher: TeacherOutputs | None, labels: np.ndarray, lm_head: tuple,
    alphas: Alphas, soft: SoftTargets, ops,
) -> tuple[dict, Cotangents]:  # fmt: skip
    """Outputs of both models, labels (M,)  ->  {loss: value}, Cotangents of the weighted sum.

    teacher: None where only the labels have a weight. lm_head: weight (V,C) and bias (V,) of the
    student's. soft: how a convention counts ce. A loss of weight 0 is not computed.
    """
    parts, d = {}, Cotangents((None,) * len(student.hidden))
    if alphas.ce or alphas.mlm or alphas.mse:
        _, words = ops.vocabulary.forward(
            student.features, *lm_head, labels=labels, tau=soft.tau,
            teacher=lambda rows: soft.observe(ops.place.send(teacher.logits(rows))),
            alpha_ce=alphas.ce * soft.factor, alpha_mlm=alphas.mlm, alpha_mse=alphas.mse,
        )  # fmt: skip
        parts |= words.parts
        one = student.features.dtype.type(1)  # the weights are in the op's gradients already
        d = d._replace(projection=ops.vocabulary.backward(one, words))
    if alphas.cos:
        parts["cos"], dh = cosine(student.hidden[-1], teacher.hidden[-1], alphas.cos, ops)
        d = d._replace(hidden=(*d.hidden[:-1], dh))
    return parts, d


def cosine(h_s: np.ndarray, h_t: np.ndarray, alpha: float, ops) -> tuple:
    """h_s, h_t (N,C)  ->  mean of 1 − cos(h_s, h_t), alpha times its gradient dh_s (N,C)."""
    loss, cache = ops.cosine.forward(h_s, target=ops.place.send(h_t))
    (dh,) = ops.cosine.backward(h_s.dtype.type(alpha), cache)
    return loss, dh
