"""Teacher outputs for a batch: of a single model, an ensemble, a teacher per task, or a cache.

A teacher is a Model, an Ensemble of models, or an object with a method `teacher_outputs(batch,
select)`, a task and a config: `PerTask` chooses among teachers by batch, `CachedTeacher` reads
stored outputs. Teachers are in evaluation mode.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from minidistil.data.two_tokenizers import as_teacher_reads
from minidistil.distill.objectives.auxiliary import ModelStates, empty_taps
from minidistil.model.ensemble import Ensemble, mean
from minidistil.model.heads import lm_head
from minidistil.model.network import Result
from minidistil.model.sentence.sentence_model import SENTENCES
from minidistil.model.vision.vision_model import VisionModel


class Teacher(Protocol):
    """What every teacher has."""

    task: str
    config: Any


class TeacherOutputs(NamedTuple):
    """Hidden states of the real tokens, and logits as a function that computes them on demand."""

    hidden: tuple  # its last entry is x_L (N,C); () of a teacher without hidden states
    logits: Callable  # a slice of the selected rows -> (·,V); of a classifier's texts -> (·,K);
    # of texts that become vectors -> (·,C)
    states: ModelStates | None = None  # all hidden states, and q, k, v, for the terms


def teacher_outputs(
    teacher: Teacher, batch: Mapping, select: np.ndarray | None, tapped: set | None = None
) -> TeacherOutputs:
    """The teacher's outputs for a batch. select: (M,) rows that get logits, None for all.

    tapped: layers whose q, k and v the terms read; None where there are no terms.
    """
    alone = not hasattr(teacher, "teacher_outputs") and not isinstance(teacher, Ensemble)
    if tapped is not None and not alone:
        raise ValueError("terms look inside one model; leave them out, or give one teacher alone")
    if hasattr(teacher, "teacher_outputs"):
        return teacher.teacher_outputs(batch, select)
    if isinstance(teacher, Ensemble):
        members = [teacher_outputs(model, batch, select) for model in teacher.members]

        def logits(rows):
            return mean([one.logits(rows) for one in members], teacher.weights, teacher.ops)

        return TeacherOutputs((), logits)
    if isinstance(teacher, VisionModel):
        result = teacher.infer(teacher.pack_batch(batch), checked=False)
        return TeacherOutputs(result.hidden[-1:], lambda images: result.logits[images])
    batch = as_teacher_reads(batch)
    rows = teacher.pack(batch["input_ids"], batch.get("attention_mask"), types_of(teacher, batch))
    taps = empty_taps(tapped or ())
    result = teacher.infer(rows, select, project=False, taps=taps, checked=False)
    states = None
    if tapped is not None:
        states = ModelStates(result.hidden, taps or {}, rows, teacher.config.architecture)
    if teacher.task == SENTENCES:
        vectors = teacher.vectors(result, rows)
        return TeacherOutputs(result.hidden[-1:], lambda texts: vectors[texts], states)
    logits = logits_of(teacher, result._replace(hidden=()))
    return TeacherOutputs(result.hidden[-1:], logits, states)


def logits_of(teacher: Teacher, result: Result, head: tuple | None = None) -> Callable:
    """A function from a slice of rows to their logits; the LM head is applied when it is called.

    head: weight and bias of the LM head, by default the model's own.
    """
    if result.features is None:
        return lambda rows: result.logits[rows]
    head = head or lm_head(teacher.canonical())
    return lambda rows: teacher.ops.linear.forward(result.features[rows], *head)[0]


def types_of(model, batch: Mapping) -> np.ndarray | None:
    """The batch's token_type_ids, for a model with token types."""
    return batch.get("token_type_ids") if model.config.architecture.types > 1 else None


class PerTask:
    """Several teachers, of which each batch names one: `batch["teacher"]` is its number.

    A student of several data sets learns each from the teacher trained on it. The teachers share
    the student's task and its classes.
    """

    def __init__(self, teachers: tuple):
        self.teachers = tuple(teachers)
        if not self.teachers:
            raise ValueError("PerTask needs at least one teacher, not 0")
        self.task, self.config, self.ops = (
            getattr(self.teachers[0], name) for name in ("task", "config", "ops")
        )
        for teacher in self.teachers[1:]:
            for what in ("vocab_size", "num_labels"):
                first, other = (getattr(t.config, what) for t in (self.teachers[0], teacher))
                if first != other:
                    raise ValueError(f"the teachers must share {what}: {first} against {other}")

    def teacher_outputs(self, batch: Mapping, select: np.ndarray | None) -> TeacherOutputs:
        """The outputs of the teacher that the batch names. Raises ValueError if it names none."""
        number = batch.get("teacher")
        if number is None or not 0 <= number < len(self.teachers):
            raise ValueError(
                f'batch["teacher"] must name one of {len(self.teachers)} teachers by its number, '
                f"not {number}"
            )
        return teacher_outputs(self.teachers[number], batch, select)
