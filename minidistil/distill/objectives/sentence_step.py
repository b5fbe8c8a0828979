"""One step of distillation of sentence vectors: the student's match the teacher's.

With v_s and v_t the vectors (B,C) as each model's folder defines them, normalised or not:

    mse    Σ (v_s − v_t)² / (B·C)
    hard   the pairs' own loss on their labels, see `minidistil.model.sentence.sentence_model`
    cos    mean over the real tokens of 1 − cos(h_s, h_t), as in the triple loss

A batch holds texts (B,T) or pairs of texts (B,2,T), whose texts are distilled one by one; labels
are optional. The vectors of both models must be equally wide. Their tokens may differ (see
`data.two_tokenizers`) unless cos has a weight.
Source: Reimers and Gurevych, "Making monolingual sentence embeddings multilingual using knowledge
distillation", 2020, §2; the mean is that of sentence-transformers' MSELoss.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.data.two_tokenizers import reads_twice
from minidistil.distill import triple_loss
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.dropout_seed import EVALUATION, DropoutSeed
from minidistil.distill.mean_counts import weighted
from minidistil.distill.student import check_pair
from minidistil.distill.teachers import Teacher, teacher_outputs, types_of
from minidistil.model import network
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.network import Cotangents
from minidistil.model.output import Step
from minidistil.model.sentence.sentence_model import (
    SentenceModel,
    normalise,
    normalise_backward,
    pairs_loss,
    pool_backward,
)


def sentence_step(
    student: SentenceModel, teacher: Teacher, batch: Mapping, config: DistillConfig,
    dropout_seed: DropoutSeed = EVALUATION, counting: Counting = PLAIN,
) -> Step:  # fmt: skip
    """A batch through both models  ->  Step. Arguments and errors: see `distill_step`."""
    check_vectors(student, teacher, config, reads_twice(batch))
    config = weighted(config, counting.shares)
    rows = student.pack(batch["input_ids"], batch.get("attention_mask"), types_of(student, batch))
    t, ops = teacher_outputs(teacher, batch, None), student.ops
    s, cache = network.forward(
        student.canonical(), rows, student.config, student.task,
        student.dropout_state(rows, *dropout_seed), ops,
    )  # fmt: skip
    v, pooled = student.pooled(s.hidden[-1], rows)  # (B,C)
    y, length = normalise(v)
    parts, dy, dv = {}, np.zeros_like(v), np.zeros_like(v)
    if config.alpha_mse:
        v_s = y if student.pooling.normalize else v
        parts["mse"], dv_s = _squared_error(v_s, t.logits(slice(None)), config.alpha_mse)
        dy, dv = (dv_s, dv) if student.pooling.normalize else (dy, dv_s)
    if config.alpha_hard and "labels" in batch:
        parts["hard"], dpairs = pairs_loss(y, rows, batch["labels"])
        dy = dy + v.dtype.type(config.alpha_hard) * dpairs
    dv = np.ascontiguousarray(dv + normalise_backward(dy, length), v.dtype)
    dh = pool_backward(ops.place.send(dv), pooled, student.pooling, ops)  # (N,C)
    if config.alpha_cos:
        cos, dcos = triple_loss.cosine(s.hidden[-1], t.hidden[-1], config.alpha_cos, ops)
        parts["cos"] = ops.place.number(cos)
        ops.place.accumulate(dh, dcos)
    if not parts:
        raise ValueError("there is nothing to learn from: set alpha_mse above 0")
    loss = sum(getattr(config, f"alpha_{name}") * part for name, part in parts.items())
    d = Cotangents((*(None,) * (len(s.hidden) - 1), dh))
    grads = student.public(network.backward(d, cache, ops, release=True))
    return Step(loss, counting.shares.of(parts), grads)


def _squared_error(v_s, v_t, alpha):
    """v_s, v_t (B,C)  ->  mean of (v_s − v_t)², alpha times its gradient (B,C)."""
    error = v_s - v_t
    return float(np.mean(error * error)), (alpha * 2 / error.size * error).astype(v_s.dtype)


def check_vectors(
    student: SentenceModel, teacher: Teacher, config: DistillConfig, own_words: bool = False
) -> None:
    """Raises ValueError for losses that vectors do not have, or vectors of different widths."""
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
    C_s, C_t = (m.config.architecture.C for m in (student, teacher))
    if C_s != C_t:
        raise ValueError(
            f"student and teacher must agree in the hidden size, the width of their vectors: "
            f"{C_s} against {C_t}"
        )
