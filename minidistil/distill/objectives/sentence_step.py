"""One step of distillation of sentence vectors: the student's are to be the teacher's.

With v_s and v_t the vectors (B,C) as either folder says they are compared, normalised or not:

    mse    Σ(v_s − v_t)² / (B·C)       where the teacher puts a text
    hard   the pairs' own loss on their labels, see `minidistil.model.sentence.sentence_model`
    cos    mean over the real tokens of 1 − cos(h_s, h_t), as in `step`

A batch holds texts (B,T) or pairs of texts (B,2,T), each of which is one more text; no label is
needed. The vectors of both models must be equally wide; their tokens may differ (see `data.twice`)
unless cos is wanted.
Source: Reimers and Gurevych, "Making monolingual sentence embeddings multilingual using knowledge
distillation", 2020, §2; the mean is that of sentence-transformers' MSELoss.
"""

import numpy as np

from minidistil.data.two_tokenizers import reads_twice
from minidistil.distill import shared_losses
from minidistil.distill.mean_counts import weighted
from minidistil.distill.student import check_pair
from minidistil.distill.teachers import teacher_outputs, types_of
from minidistil.model import network
from minidistil.model.label_counts import PLAIN
from minidistil.model.network import Cotangents
from minidistil.model.output import Step
from minidistil.model.sentence.sentence_model import (
    normalise,
    normalise_backward,
    pairs_loss,
    pool_backward,
)


def sentence_step(student, teacher, batch, config, train, seed, step, first_sequence,
                  counting=PLAIN):  # fmt: skip
    """A batch through both models  ->  Step. Arguments and errors as `distill_step`."""
    check_vectors(student, teacher, config, reads_twice(batch))
    config = weighted(config, counting.shares)
    rows = student.pack(batch["input_ids"], batch.get("attention_mask"), types_of(student, batch))
    theirs, ops = teacher_outputs(teacher, batch, None), student.ops
    dropout_state = student.dropout_state(rows, train, seed, step, first_sequence)
    mine, cache = network.forward(
        student.canonical(), rows, student.config, student.task, dropout_state, ops
    )
    v, pooled = student.pooled(mine.hidden[-1], rows)  # (B,C)
    y, length = normalise(v)
    parts, dy, dv = {}, np.zeros_like(v), np.zeros_like(v)
    if config.alpha_mse:
        parts["mse"], d = _squares(
            y if student.pooling.normalize else v, theirs.logits(slice(None)), config.alpha_mse
        )
        if student.pooling.normalize:
            dy = d
        else:
            dv = d
    if config.alpha_hard and "labels" in batch:
        parts["hard"], _, d = pairs_loss(y, rows, batch["labels"])
        dy = dy + v.dtype.type(config.alpha_hard) * d
    dv = np.ascontiguousarray(dv + normalise_backward(dy, length), v.dtype)
    dh = pool_backward(ops.place.send(dv), pooled, student.pooling, ops)  # (N,C)
    if config.alpha_cos:
        loss, dcos = shared_losses.cosine(mine.hidden[-1], theirs.hidden[-1], config.alpha_cos, ops)
        parts["cos"] = ops.place.number(loss)
        ops.place.accumulate(dh, dcos)
    if not parts:
        raise ValueError("there is nothing to learn from: set alpha_mse above 0")
    loss = sum(getattr(config, f"alpha_{name}") * part for name, part in parts.items())
    d = Cotangents((*(None,) * (len(mine.hidden) - 1), dh))
    grads = student.public(network.backward(d, cache, ops, release=True))
    return Step(loss, counting.shares.of(parts), grads)


def _squares(mine, theirs, alpha):
    """v_s, v_t (B,C)  ->  their mean squared distance, alpha times its gradient (B,C)."""
    off = mine - theirs
    return float(np.mean(off * off)), (alpha * 2 / off.size * off).astype(mine.dtype)


def check_vectors(student, teacher, config, own_words=False):
    """Raises ValueError for losses that vectors do not have, or two models with vectors of two
    sizes."""
    check_pair(student, teacher, config.alpha_cos > 0, own_words)
    if config.alpha_ce:
        raise ValueError(
            "soft targets need logits, which sentence vectors are not: set alpha_ce to 0 and "
            "alpha_mse above it"
        )
    if config.terms:
        raise ValueError(
            f"the term {config.terms[0].name} is not for sentence vectors; leave terms out, or "
            f"distil the body with task fill-mask first"
        )
    mine, theirs = (m.config.architecture.C for m in (student, teacher))
    if mine != theirs:
        raise ValueError(
            f"student and teacher must agree in the hidden size, the width of their vectors: "
            f"{mine} against {theirs}"
        )
