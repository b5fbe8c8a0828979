"""The losses of a classifier of texts, tokens, answer spans or choices, with their gradients.

z_s and z_t are the logits of student and teacher, one row for each question that the classifier
decides (see `minidistil.model.task_outputs`):

    ce     mean over the questions of the soft targets' divergence. For tokens over the real ones;
           of a span the mean of its start's and its end's, each over the text's real tokens;
           of an extractive summary over the tokens that begin a sentence, as mse
    hard   the labels' own loss, where a batch has them
    mse    Σ (z_s − z_t)² / rows: of a regression the squared error to the teacher's numbers

Source for spans: transformers' run_squad_w_distillation.py, which includes the padding in both
distributions; here the padding has no logits.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from minidistil.distill.conventions import OURS, SoftTargets, row_temperatures
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.teachers import TeacherOutputs
from minidistil.model import task_loss
from minidistil.model.context import plus
from minidistil.model.heads import EXTRACT
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.network import Cotangents, Result
from minidistil.model.rows import Rows
from minidistil.model.task_outputs import questions, questions_backward


class Comparison(NamedTuple):
    """By what the logits of both models are compared."""

    student: object  # whose head decides, on its ops
    rows: Rows | None  # of the batch; None for images
    config: DistillConfig
    soft: SoftTargets


def class_losses(
    student: Result, teacher: TeacherOutputs | None, labels: Mapping[str, np.ndarray],
    by: Comparison, counting: Counting = PLAIN,
) -> tuple[dict, Cotangents]:  # fmt: skip
    """Outputs of both models  ->  {part: loss}, Cotangents of their weighted sum.

    teacher: None where only labels have a weight. labels: may be empty. counting: of the labels, of
    which a span's alone have shares of their own.
    """
    ops, config, parts, dlogits = by.student.ops, by.config, {}, None
    z_s, z_t = student.logits, None
    if teacher is not None:
        z_t = ops.place.send(teacher.logits(slice(0, len(z_s))))
    z_s, z_t, scatter = _selected(z_s, z_t, by)
    if config.alpha_ce:
        parts["ce"], dz = _soft_target_loss(z_s, z_t, by)
        dlogits = scatter(dz)
    if config.alpha_hard and labels:
        parts["hard"], dz = task_loss.answer_loss(
            student.logits, by.rows, labels, by.student, config.alpha_hard, counting
        )
        dlogits = plus(dlogits, dz, ops)
    if config.alpha_mse:
        parts["mse"], cache = ops.mse.forward(z_s, target=z_t, reduction="batchmean")
        (dz,) = ops.mse.backward(z_s.dtype.type(config.alpha_mse), cache)
        dlogits = plus(dlogits, scatter(dz), ops)
    return parts, Cotangents((None,) * len(student.hidden), logits=dlogits)


def alternatives(student, rows: Rows) -> int:
    """How many answers a question has: classes, choices, or the columns of a text."""
    head = student.logits_head
    if head == "spans":
        return rows.mask.shape[1]
    return rows.choices if head == "choice" else student.config.num_labels


def soft_targets_of(config: DistillConfig, V: int, labelled: bool, ops) -> SoftTargets:
    """SoftTargets of V alternatives; labelled: whether the batch has labels."""
    if config.hard_targets:
        return SoftTargets(OURS, 1.0, V, ops)  # neither a temperature nor another normalisation
    tau = 1.0 if config.temperature_by else config.temperature
    return SoftTargets(config.convention, tau, V, ops, labelled and config.alpha_hard > 0)


def check_classes(config) -> None:
    """Soft targets are probabilities that sum to 1: one class of several for each input."""
    remedy = "set alpha_ce to 0 and alpha_mse above it"
    if config.num_labels == 1:
        raise ValueError(f"soft targets need 2 classes or more, the models have 1; {remedy}")
    if config.problem_type == "multi_label_classification":
        raise ValueError(
            f"soft targets need one class for each text, the student's problem_type is "
            f"{config.problem_type}; {remedy}"
        )


def _selected(z_s, z_t, by):
    """The rows of both logits to distil, and the function that scatters gradients back."""
    if by.student.task != EXTRACT:
        return z_s, z_t, lambda dz: dz
    starts, ops = by.rows.starts(), by.student.ops
    z_s, gather = ops.embedding.forward(z_s, ids=starts)  # a look-up in the rows
    z_t = None if z_t is None else ops.embedding.forward(z_t, ids=starts)[0]
    return z_s, z_t, lambda dz: ops.embedding.backward(dz, gather)[0]


def _soft_target_loss(z_s, z_t, by):
    """Logits of both  ->  mean loss of the questions (a float), α_ce times its gradient."""
    head, ops = by.student.logits_head, by.student.ops
    of_student, of_teacher = (questions(z, by.rows, head, ops.place) for z in (z_s, z_t))
    total, d, share = 0.0, [], 1 / len(of_student)
    loss_of = _argmax_loss if by.config.hard_targets else _divergence
    for q_s, q_t in zip(of_student, of_teacher, strict=True):
        loss, dq = loss_of(q_s, q_t, by, by.config.alpha_ce * share)
        total += ops.place.number(loss) * share
        d.append(dq)
    return total, questions_backward(d, by.rows, head, ops.place)


def _divergence(z_s, z_t, by, weight):
    """One question's logits  ->  τ²·KL, the gradient of weight times the convention's loss."""
    ops, soft = by.student.ops, by.soft
    z_s, z_t, inv_tau = _softened(z_s, z_t, by.config, ops)
    loss, cache = ops.kl_div.forward(z_s, teacher=soft.observe(z_t), tau=soft.tau)
    (dz,) = ops.kl_div.backward(z_s.dtype.type(weight * soft.factor), cache)
    return loss, dz if inv_tau is None else ops.place.send(ops.place.fetch(dz) * inv_tau)


def _argmax_loss(z_s, z_t, by, weight):
    """One question's logits  ->  cross entropy with the teacher's argmax, weight times its
    gradient."""
    ops = by.student.ops
    return task_loss.tokens(z_s, ops.place.fetch(z_t).argmax(axis=1), ops, weight)


def _softened(z_s, z_t, config, ops):
    """Both over each row's own temperature where the config has such, and 1/τ (N,1)."""
    if not config.temperature_by:
        return z_s, z_t, None
    z_s, z_t = map(ops.place.fetch, (z_s, z_t))
    tau = row_temperatures(config.temperature_by, z_s, z_t, config.temperature)
    inv_tau = (1 / tau)[:, None].astype(z_s.dtype)
    return ops.place.send(z_s * inv_tau), ops.place.send(z_t * inv_tau), inv_tau
