"""What a student is told about a batch: a TeacherOutputs, whoever gives it.

A teacher is a Model, an Ensemble of models, or anything with a method `teacher_outputs(batch,
select)`, a task and a config: `PerTask` chooses among teachers by batch, `CachedTeacher` reads what
a model said before. Teachers are in evaluation mode.
"""

from collections.abc import Callable
from typing import NamedTuple

from minidistil.data.two_tokenizers import as_teacher_reads
from minidistil.distill.objectives.auxiliary import ModelStates
from minidistil.model.ensemble import Ensemble, mean
from minidistil.model.heads import lm_head
from minidistil.model.sentence.sentence_model import SENTENCES
from minidistil.model.vision.vision_model import VisionModel


class TeacherOutputs(NamedTuple):
    """Hidden states of the real tokens, and logits where they are asked for."""

    hidden: tuple  # the last one alone is x_L (N,C); () of a teacher that shows none
    logits: Callable  # a slice of the selected rows -> (·,V); of a classifier's texts -> (·,K);
    # of texts that become vectors -> (·,C)
    seen: ModelStates | None = None  # all hidden states, and q, k, v, where terms look at them


def teacher_outputs(teacher, batch, select, watched=None):
    """What this teacher says of this batch. select: (M,) rows that get logits, None for all.

    watched: layers whose q, k and v terms look at, a set; None where there are no terms.
    """
    if watched is not None and (
        hasattr(teacher, "teacher_outputs") or isinstance(teacher, Ensemble)
    ):
        raise ValueError("terms look inside one model; leave them out, or give one teacher alone")
    if hasattr(teacher, "teacher_outputs"):
        return teacher.teacher_outputs(batch, select)
    if isinstance(teacher, Ensemble):
        lessons = [teacher_outputs(model, batch, select) for model in teacher.members]

        def logits(rows):
            return mean([one.logits(rows) for one in lessons], teacher.weights, teacher.ops)

        return TeacherOutputs((), logits)
    if isinstance(teacher, VisionModel):
        result = teacher.infer(teacher.pack_batch(batch), checked=False)
        return TeacherOutputs(result.hidden[-1:], lambda images: result.logits[images])
    batch = as_teacher_reads(batch)
    rows = teacher.pack(batch["input_ids"], batch.get("attention_mask"), types_of(teacher, batch))
    taps = {f"layer.{i - 1}": {} for i in watched or ()}
    result = teacher.infer(rows, select, project=False, taps=taps or None, checked=False)
    seen = None
    if watched is not None:
        seen = ModelStates(result.hidden, taps, rows, teacher.config.architecture)
    if teacher.task == SENTENCES:
        vectors = teacher.vectors(result, rows)
        return TeacherOutputs(result.hidden[-1:], lambda texts: vectors[texts], seen)
    return TeacherOutputs(result.hidden[-1:], logits_of(teacher, result._replace(hidden=())), seen)


def logits_of(teacher, result, head=None):
    """A function from a slice to the logits; words are projected onto only when asked for.

    head: what projects onto them, by default the model's own.
    """
    if result.features is None:
        return lambda rows: result.logits[rows]
    head = head or lm_head(teacher.canonical())
    return lambda rows: teacher.ops.linear.forward(result.features[rows], *head)[0]


def types_of(model, batch):
    """token_type_ids for a model that reads them."""
    return batch.get("token_type_ids") if model.config.architecture.types > 1 else None


class PerTask:
    """Several teachers, of which each batch names one: `batch["teacher"]` is its number.

    A student of several data sets learns each from the model that knows it. The teachers share the
    student's task and its classes.
    """

    def __init__(self, teachers):
        self.teachers = tuple(teachers)
        if not self.teachers:
            raise ValueError("PerTask needs at least one teacher, not 0")
        self.task, self.config, self.ops = (
            getattr(self.teachers[0], name) for name in ("task", "config", "ops")
        )
        for teacher in self.teachers[1:]:
            for what in ("vocab_size", "num_labels"):
                mine, first = (getattr(t.config, what) for t in (teacher, self.teachers[0]))
                if mine != first:
                    raise ValueError(f"the teachers must share {what}: {first} against {mine}")

    def teacher_outputs(self, batch, select):
        """What the teacher that the batch names says of it. Raises ValueError if it names none."""
        number = batch.get("teacher")
        if number is None or not 0 <= number < len(self.teachers):
            raise ValueError(
                f'batch["teacher"] must name one of {len(self.teachers)} teachers by its number, '
                f"not {number}"
            )
        return teacher_outputs(self.teachers[number], batch, select)
