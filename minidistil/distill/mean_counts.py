"""What each mean of a distillation step is over, so that micro-batches add up to the whole batch.

    ce, mse    the rows of logits compared with the teacher's: words, texts, choices, tokens
    mlm, clm   labelled words; hard: the labels, of a span its starts and its ends each
    cos        real tokens
    terms      each term's `count`

Two losses depend on all rows of a batch and are computed within each micro-batch: temperatures by
row, which use the batch's mean weight, and a contrastive loss, whose negatives are in the batch.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from minidistil.distill.conventions import CONVENTIONS
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.objectives.auxiliary import part_of
from minidistil.distill.teachers import types_of
from minidistil.model import task_loss
from minidistil.model.heads import EXTRACT, WORD_TASKS
from minidistil.model.label_counts import PLAIN, Counting, Shares
from minidistil.model.sentence.sentence_model import SENTENCES
from minidistil.model.seq2seq.seq2seq_model import BATCH, EncoderDecoder
from minidistil.model.vision.vision_model import VisionModel

LABEL_LOSS = {"fill-mask": "mlm", "text-generation": "clm"}  # the name of a task's label loss
BY_BATCH = ("ce", "mlm", "clm", "cos", "mse", "hard")


def weighted(config: DistillConfig, shares: Shares) -> DistillConfig:
    """The config with every weight times the micro-batch's share of that mean."""
    if not shares:
        return config
    alphas = {n: getattr(config, f"alpha_{n}") * shares[n] for n in BY_BATCH}
    terms = (
        dataclasses.replace(term, weight=term.weight * shares[part_of(number, term)])
        for number, term in enumerate(config.terms)
    )
    return dataclasses.replace(
        config, terms=tuple(terms), **{f"alpha_{n}": alpha for n, alpha in alphas.items()}
    )


def counts(
    student, batch: Mapping, config: DistillConfig, width: int | None = None,
    counting: Counting = PLAIN,
) -> dict:  # fmt: skip
    """{part of positive weight: what its mean is over}.

    width: the columns of the whole batch, where a convention averages over them as well; by
    default the batch's own.
    """
    inner = getattr(student, "student", student)  # without projections
    if isinstance(inner, EncoderDecoder):
        found = _of_pairs(inner, batch)
    elif isinstance(inner, VisionModel):
        n = len(batch["pixel_values"])
        found = {"ce": n, "mse": n, "cos": n, **_labels(inner, batch, counting)}
    else:
        types = types_of(student, batch)
        rows = student.pack(batch["input_ids"], batch.get("attention_mask"), types)
        labels = _labels(student, batch, counting)
        found = _of_texts(student, batch, rows, config, width or rows.mask.shape[1], labels)
    alphas = {n: getattr(config, f"alpha_{n}") for n in BY_BATCH}
    return {n: count for n, count in found.items() if alphas.get(_loss_of(n), 1)}


def _of_pairs(student, batch):
    pair = student.pack_pair(**{name: batch.get(name) for name in BATCH}, empty=True)
    labelled = np.count_nonzero(pair.labels != task_loss.IGNORED)
    cos = len(pair.target.column)
    return {"ce": labelled, "mse": labelled, "hard": labelled, "cos": cos}


def _of_texts(student, batch, rows, config, width, labels):
    N, B = len(rows.column), len(rows.mask)
    if student.task == SENTENCES:
        labels = {"hard": len(batch["labels"])} if "labels" in batch else {}
        return {"mse": B, "cos": N, **labels}
    if student.task in WORD_TASKS:
        labelled = labels.get("hard", 0)
        labels = {LABEL_LOSS[student.task]: labelled}
        compared = labelled if config.restrict_ce_to_mask else N
        found = {"ce": compared, "mse": compared}
    else:
        found = _of_questions(student, rows, config, width)
    terms = {
        part_of(number, term): term.count(rows, width) for number, term in enumerate(config.terms)
    }
    return {**found, "cos": N, **labels, **terms}


def _of_questions(student, rows, config, width):
    """Of a classifier of texts."""
    N, B, head = len(rows.column), len(rows.mask), student.logits_head
    if student.task == EXTRACT:
        N = len(rows.starts())
    if head == "tokens":
        return {"ce": N, "mse": N}
    if head == "spans":  # whose classes are the columns
        classes = CONVENTIONS[config.convention].classes and not config.hard_targets
        return {"ce": B * width if classes else B, "mse": N}
    return {"ce": B // rows.choices, "mse": B}


def _labels(student, batch, counting):
    """Counts of the labels' own loss: `hard`, or of a span its two names."""
    return {"hard" if n == "labels" else n: x for n, x in student.counts(batch, counting).items()}


def _loss_of(name):
    return "hard" if name in task_loss.SPAN_LABELS else name
