"""One step of distillation: the triple loss and its gradient.

With s and t the logits of student and teacher, h their last hidden states, R the real tokens:

    ce    τ²·mean over R of KL(softmax(t/τ) ‖ softmax(s/τ))     what the teacher believes
    mlm   mean over the labelled tokens of −ln softmax(s)       what the text says
    clm   the same for a decoder, which predicts the next token
    cos   mean over R of 1 − cos(h_s, h_t)                      which way the teacher points
    mse   Σ(s − t)² / |R|                                       the teacher's logits themselves

    loss = α_ce·ce + α_mlm·mlm + α_clm·clm + α_cos·cos + α_mse·mse

With `restrict_ce_to_mask`, ce and mse look at the tokens alone that predict a label; cos never
does. The teacher is in evaluation mode. A model has one of mlm and clm: a decoder's labels are the
tokens themselves, and row n is asked for the label of row n+1; its last row, which predicts no
word of the text, still learns what the teacher expects there. A classifier is distilled the same
way with one row of logits for each question it decides, and `hard`, its labels' own loss, for mlm:
see `targets`. Images are classified by a token or two: see `images`. Sentence vectors have neither
logits nor words: see `sentences`.
Other code bases count ce in other ways: `convention`, see `minidistil.distill.conventions`.
Source: Hugging Face's `Distiller.step`, value for value; Sanh et al., "DistilBERT", 2019, §2.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minidistil.data.two_tokenizers import reads_twice
from minidistil.distill import shared_losses, weight_schedules
from minidistil.distill.conventions import CONVENTIONS, NO_ROW_TEMPERATURES, OURS, SoftTargets
from minidistil.distill.mean_counts import weighted
from minidistil.distill.objectives import (
    TERMS,
    AttentionLoss,
    ModelStates,
    PatientMSE,
    Projected,
    RelationLoss,
    auxiliary_losses,
    tapped,
)
from minidistil.distill.objectives.image_step import image_step
from minidistil.distill.objectives.label_targets import (
    alternatives,
    check_classes,
    class_losses,
    soft_targets_of,
)
from minidistil.distill.objectives.sentence_step import sentence_step
from minidistil.distill.objectives.sequence_step import word_step
from minidistil.distill.objectives.term_spec import term_of
from minidistil.distill.student import check_pair
from minidistil.distill.teachers import teacher_outputs, types_of
from minidistil.io.arguments import number, one_of, switch
from minidistil.io.limits import short
from minidistil.model import network, task_loss
from minidistil.model.context import plus
from minidistil.model.heads import WORD_TASKS, lm_head
from minidistil.model.label_counts import PLAIN
from minidistil.model.network import Cotangents, ForwardOptions
from minidistil.model.output import Step
from minidistil.model.rows import given_in
from minidistil.model.sentence.sentence_model import SENTENCES
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.model.vision.vision_model import VisionModel
from minidistil.ops import frugal

BY_LABELS = ("classifier", "out_proj", "tokens")  # heads whose classes are the config's labels


@dataclass(frozen=True)
class DistillConfig:
    """Weights of the losses; the defaults are those of the released DistilBERT."""

    temperature: float = 2.0
    alpha_ce: float = 5.0  # soft targets
    alpha_mlm: float = 2.0  # masked words
    alpha_cos: float = 1.0  # directions of the last hidden states
    alpha_mse: float = 0.0  # logits
    alpha_clm: float = 0.0  # next words, of a decoder; it has no masked ones
    restrict_ce_to_mask: bool = False
    alpha_hard: float = 2.0  # a classifier's labels, where a batch has them
    convention: str = OURS  # how soft targets are counted: a name in `soft_targets.CONVENTIONS`
    hard_targets: bool = False  # ce: the teacher's likeliest answer, as a label; of classifiers
    temperature_by: str = ""  # each text's own: `soft_targets.row_temperatures`
    terms: tuple = ()  # objectives on what is inside, or their names: `distill.objectives`
    vary: tuple = ()  # numbers above that change during a run: see `weight_schedules`

    def __post_init__(self):
        number("temperature", self.temperature, 0, above=True)
        one_of("convention", self.convention, CONVENTIONS)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("alpha"):
                number(field.name, value, 0)
            elif isinstance(field.default, bool):
                switch(field.name, value)
            elif field.default == () and not isinstance(value, list | tuple | None):
                raise ValueError(f"{field.name} must be a list, not {short(value)}")
        if not isinstance(self.temperature_by, str | None):
            raise ValueError(f"temperature_by must be a rule, not {self.temperature_by!r}")
        for term in self.terms or ():
            if not isinstance(term, (str, *TERMS.values())):
                raise ValueError(
                    f"a term is one of {', '.join(TERMS)}, or its name, not {short(term)}"
                )
        terms = (term_of(t) if isinstance(t, str) else t for t in self.terms or ())
        object.__setattr__(self, "terms", tuple(terms))
        if self.temperature_by and self.convention != "textbrewer":
            raise ValueError(
                f"temperatures of single texts are TextBrewer's, who leave τ² out: they need "
                f"convention textbrewer, not {self.convention}"
            )
        object.__setattr__(self, "vary", tuple(self.vary or ()))
        numbers = {f.name for f in dataclasses.fields(self) if isinstance(f.default, float)}
        if unknown := set(weight_schedules.values(self.vary, 0.0)) - numbers:
            raise ValueError(
                f"what varies must be one of {', '.join(sorted(numbers))}, not {min(unknown)!r}"
            )
        self.at(0.0), self.at(1.0)  # both ends obey the rules above

    def at(self, x):
        """The config at the share x of a run, 0 to 1, in which nothing varies any more."""
        if not self.vary:
            return self
        return dataclasses.replace(self, vary=(), **weight_schedules.values(self.vary, x))


@frugal()
def distill_step(student, teacher, batch, config, train=False, seed=0, step=0, first_sequence=0,
                 counting=PLAIN):  # fmt: skip
    """One batch through both models  ->  Step(loss, parts before weighting, grads of the student).

    config: what varies in it has the value of the first step, unless `config.at` chose another.
    batch: as a data collator makes it; token_type_ids go to the model that has them. train: the
    student's dropout. counting: what each mean counts for in a larger batch, see
    `minidistil.model.label_counts`; parts are then shares of the larger batch's.
    Raises ValueError for a pair that a loss cannot compare, or a bad batch.
    """
    if not isinstance(config, DistillConfig):
        raise TypeError(f"config must be a DistillConfig, not {short(config)}")
    for role, model in (("student", student), ("teacher", teacher)):
        if not hasattr(model, "task"):
            raise TypeError(f"the {role} must be a model, not {short(model)}")
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch is a mapping from names to arrays, not {short(batch)}")
    config = config.at(0.0)
    check_reading(student, config)
    inner = student.student if isinstance(student, Projected) else student
    if config.hard_targets and (student.task in WORD_TASKS or isinstance(inner, EncoderDecoder)):
        raise ValueError(
            "hard_targets are the likeliest classes of a classifier; a teacher's likeliest words "
            "are what --sequence-level or its own texts give: leave it out"
        )
    given_in(batch, "pixel_values" if isinstance(inner, VisionModel) else "input_ids")
    if isinstance(inner, EncoderDecoder):
        one, student = word_step, inner  # which has no terms, and says so
    elif isinstance(inner, VisionModel):
        one, student = image_step, inner  # the same
    else:
        one = sentence_step if student.task == SENTENCES else _text_step
    return one(
        student, teacher, batch, config, train, seed, step, first_sequence, counting=counting
    )


def _text_step(student, teacher, batch, config, *place, counting):
    """The step of a model that says words, or classes, of one text."""
    asked, config = config, weighted(config, counting.shares)
    _check_texts(student, teacher, asked, reads_twice(batch))
    rows = student.pack(batch["input_ids"], batch.get("attention_mask"), types_of(student, batch))
    ops = student.ops
    labels = select = None
    if words := student.task in WORD_TASKS:
        labels = _labels_of_words(student, batch, rows, asked, empty=bool(counting.shares))
        select = _wanted_rows(config, labels)
        labels = labels if select is None else labels[select]
    # The teacher goes first: what it needs on its way is free again before the student keeps any.
    watch = _watched(config, student, teacher)
    theirs = _teach(teacher, batch, config, select, watch)
    taps = {f"layer.{i - 1}": {} for i in watch[0]} or None
    mine, cache = network.forward(
        student.canonical(), rows, student.config, student.task,
        student.dropout_state(rows, *place), ops, ForwardOptions(select, taps, project=False),
    )  # fmt: skip
    given = {} if words else task_loss.given(batch)
    soft = _soft_targets(asked, student, rows, given)
    if words:
        parts, d = _token_losses(mine, theirs, labels, config, soft, student)
    else:
        parts, d = class_losses(mine, theirs, given, rows, config, soft, student, counting)
    if config.alpha_cos:
        h, target = mine.hidden[-1], theirs.hidden[-1]
        parts["cos"], dlast = shared_losses.cosine(h, target, config.alpha_cos, ops)
        d = d._replace(hidden=(*d.hidden[:-1], dlast))
    if not parts and not config.terms:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    weights = {name: getattr(config, f"alpha_{name}") for name in parts}
    dtaps, learned = None, {}
    if config.terms:
        seen = ModelStates(mine.hidden, taps or {}, rows, student.config.architecture)
        losses, sent = auxiliary_losses(
            config.terms, seen, theirs.seen, getattr(student, "learned", {}), ops
        )
        d = d._replace(hidden=tuple(
            plus(dx, sent.hidden.get(i), ops) for i, dx in enumerate(d.hidden)
        ))  # fmt: skip
        parts |= losses
        weights |= {n: t.weight for n, t in zip(losses, config.terms, strict=True)}
        dtaps, learned = sent.taps, sent.params
    grads = student.public(network.backward(d, cache, ops, dtaps, release=True)) | learned
    parts = soft.counted(parts)  # a device is waited for here, when it has all its work
    loss = sum(weights[name] * parts[name] for name in parts)
    return Step(loss, counting.shares.of(parts), grads)


def _check_texts(student, teacher, config, own_words):
    """Raises ValueError for a pair, or losses, that no batch can make comparable."""
    check_pair(student, teacher, config.alpha_cos > 0, own_words)
    for term in config.terms if own_words else ():
        if not isinstance(term, PatientMSE):  # which looks at a text's first vector alone
            raise ValueError(
                f"the term {term.name} compares token by token, and student and teacher read a "
                f"text in words of their own; leave it out"
            )
    if student.logits_head in BY_LABELS and config.alpha_ce:
        check_classes(student.config)
    if student.task in WORD_TASKS and config.temperature_by:
        raise ValueError(NO_ROW_TEMPERATURES)


def _labels_of_words(student, batch, rows, config, empty):
    """The right word (N,) for every row, IGNORED where there is none."""
    said = f"alpha_{_said(student)}"
    if batch.get("labels") is None:
        if getattr(config, said) or config.restrict_ce_to_mask:
            raise ValueError(
                f"distilling a language model needs labels in the batch; without them set {said} "
                f"to 0 and leave restrict_ce_to_mask out"
            )
        return np.full(len(rows.column), task_loss.IGNORED)
    given = {"labels": batch["labels"]}
    (labels,) = task_loss.right_answers(given, rows, student.config, student.logits_head, empty)
    return labels


def check_reading(student, config):
    """Raises ValueError where a loss or a term needs another reading direction than the student's.

    Terms on queries and keys compare whole squares of attention, of which a decoder has half.
    """
    causal = student.task == "text-generation"
    if config.alpha_clm and not causal:
        raise ValueError(
            f"alpha_clm must be 0 without a causal model, not {config.alpha_clm}: a student for "
            f"{student.task!r} predicts no next word"
        )
    for term in config.terms if causal else ():
        if isinstance(term, AttentionLoss | RelationLoss):
            raise ValueError(
                f"the term {term.name} compares attention in both directions, which a decoder does "
                f"not have; leave it out"
            )


def _watched(config, student, teacher):
    """The layers of both whose insides terms look at; raises where a term does not fit the pair."""
    a, b = student.config.architecture, teacher.config.architecture
    for i, term in enumerate(config.terms):
        missing = [n for n in term.shapes(a, b)
                   if f"terms.{i}.{n}" not in getattr(student, "learned", {})]  # fmt: skip
        if missing:
            raise ValueError(
                f"the term {term.name} learns {missing[0]}: give distill_step "
                f"Projected(student, teacher, config.terms), which holds it"
            )
    return tapped(config.terms, a, b)


def _wanted_rows(config, labels):
    """The rows whose logits a loss looks at, (M,), or None for all of them; all, too, where a
    micro-batch has no label, and so no loss of logits."""
    everywhere = config.alpha_ce > 0 or config.alpha_mse > 0
    if everywhere and not config.restrict_ce_to_mask:
        return None
    rows = np.flatnonzero(labels != task_loss.IGNORED)
    return rows if len(rows) else None


def _teach(teacher, batch, config, select, watch):
    """The teacher's TeacherOutputs; None where no loss asks for it."""
    if config.alpha_ce == config.alpha_mse == config.alpha_cos == 0 and not config.terms:
        return None
    return teacher_outputs(teacher, batch, select, watch[1] if config.terms else None)


def _soft_targets(config, student, rows, given):
    """The config's convention for the student's classes, which for words is the vocabulary."""
    if student.task in WORD_TASKS:
        beside_labels = getattr(config, f"alpha_{_said(student)}") > 0
        V = student.config.vocab_size
        return SoftTargets(config.convention, config.temperature, V, student.ops, beside_labels)
    return soft_targets_of(config, alternatives(student, rows), bool(given), student.ops)


def _token_losses(mine, theirs, labels, config, soft, student):
    """{part: loss} of the words, and the Cotangents of their weighted sum."""
    alphas = {name: getattr(config, f"alpha_{name}") for name in ("ce", _said(student), "mse")}
    parts, projection = shared_losses.word_losses(
        mine.features, lm_head(student.canonical()), labels, theirs and theirs.logits, alphas,
        soft, student.ops,
    )  # fmt: skip
    return parts, Cotangents((None,) * len(mine.hidden), projection)


def _said(student):
    """The loss of what the text says: next words of a decoder, else masked ones."""
    return "clm" if student.task == "text-generation" else "mlm"
