"""One step of distillation: which losses a pair of models has, and the step of a language model.

    fill-mask, text-generation     `language_model_step` below: the triple loss
    classifiers of texts           `objectives.label_step`
    sentence vectors               `objectives.sentence_step`
    encoder–decoders               `objectives.sequence_step`
    images                         `objectives.image_step`

A step runs the teacher in evaluation mode and the student forward, computes the losses with their
gradients (`triple_loss`), and runs the student backward. A masked language model has labels at
masked tokens (loss mlm). A causal one predicts the next token (loss clm): its labels are the tokens
themselves, row n has the label of row n+1, and a last row without a label still counts in ce.
With `restrict_ce_to_mask` ce and mse are means over the labelled rows only; cos never is.
`convention` selects the normalisation of ce, see `minidistil.distill.conventions`.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.data.two_tokenizers import reads_twice
from minidistil.distill import triple_loss
from minidistil.distill.conventions import NO_ROW_TEMPERATURES, SoftTargets
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.dropout_seed import DropoutSeed
from minidistil.distill.mean_counts import LABEL_LOSS, weighted
from minidistil.distill.objectives import Projected
from minidistil.distill.objectives.auxiliary import (
    ModelStates,
    auxiliary_losses,
    empty_taps,
    learned_by,
    plus_terms,
    tapped_layers,
)
from minidistil.distill.objectives.image_step import image_step
from minidistil.distill.objectives.label_step import label_step
from minidistil.distill.objectives.sentence_step import sentence_step
from minidistil.distill.objectives.sequence_step import sequence_step
from minidistil.distill.student import check_pair
from minidistil.distill.teachers import Teacher, teacher_outputs, types_of
from minidistil.io.limits import short
from minidistil.model import network, task_loss
from minidistil.model.heads import WORD_TASKS, lm_head
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.model import Model
from minidistil.model.network import ForwardOptions
from minidistil.model.output import Step
from minidistil.model.rows import given_in
from minidistil.model.sentence.sentence_model import SENTENCES
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.model.vision.vision_model import VisionModel
from minidistil.ops import frugal


@frugal()
def distill_step(
    student: Model | VisionModel | Projected, teacher: Teacher, batch: Mapping,
    config: DistillConfig, train: bool = False, seed: int = 0, step: int = 0, *,
    first_sequence: int = 0, counting: Counting = PLAIN,
) -> Step:  # fmt: skip
    """One batch through both models  ->  Step(loss, parts before weighting, grads of the student).

    config: scheduled numbers have their values at the first step; `config.at` gives a config with
    the values of another step. batch: arrays as a data collator makes them; token_type_ids go to
    the model that has them. train, seed, step, first_sequence: the student's dropout, see
    `DropoutSeed`. counting: the weights of labels and of a micro-batch's means, see
    `minidistil.model.label_counts`; the parts of a micro-batch are its shares of the whole batch's.
    Raises ValueError for a pair that a loss cannot compare, or a bad batch.
    """
    _check_arguments(student, teacher, batch, config)
    config = config.at(0.0)
    check_reading(student, config)
    model = student.student if isinstance(student, Projected) else student
    if config.hard_targets and (model.task in WORD_TASKS or isinstance(model, EncoderDecoder)):
        raise ValueError(
            "hard_targets are the argmax classes of a classifier; for a language model train on "
            "texts that the teacher generates (--sequence-level): leave hard_targets out"
        )
    given_in(batch, "pixel_values" if isinstance(model, VisionModel) else "input_ids")
    dropout_seed = DropoutSeed(train, seed, step, first_sequence)
    if isinstance(model, EncoderDecoder):  # neither has terms: the bare model is the student
        return sequence_step(model, teacher, batch, config, dropout_seed, counting)
    if isinstance(model, VisionModel):
        return image_step(model, teacher, batch, config, dropout_seed, counting)
    if model.task == SENTENCES:
        return sentence_step(student, teacher, batch, config, dropout_seed, counting)
    if model.task in WORD_TASKS:
        return language_model_step(student, teacher, batch, config, dropout_seed, counting)
    return label_step(student, teacher, batch, config, dropout_seed, counting)


def language_model_step(
    student: Model | Projected, teacher: Teacher, batch: Mapping, config: DistillConfig,
    dropout_seed: DropoutSeed, counting: Counting,
) -> Step:  # fmt: skip
    """The step of a masked or causal language model. Arguments and errors: see `distill_step`."""
    own_words = reads_twice(batch)
    check_pair(student, teacher, config.alpha_cos > 0, own_words)
    if config.temperature_by:
        raise ValueError(NO_ROW_TEMPERATURES)
    tapped = tapped_layers(config.terms, student, teacher, own_words)
    ops, name = student.ops, LABEL_LOSS[student.task]
    rows = student.pack(batch["input_ids"], batch.get("attention_mask"), types_of(student, batch))
    labels = _labels(student, batch, rows, config, empty=bool(counting.shares))
    soft = SoftTargets(
        config.convention, config.temperature, student.config.vocab_size, ops,
        beside_labels=_alpha(config, name) > 0,
    )  # fmt: skip
    config = weighted(config, counting.shares)
    select = _selected_rows(config, labels)
    labels = labels if select is None else labels[select]

    # The teacher runs first: its activations are freed before the student keeps its own.
    t = None
    if config.needs_teacher():
        t = teacher_outputs(teacher, batch, select, tapped.teacher if config.terms else None)
    taps = empty_taps(tapped.student)
    dropout_state = student.dropout_state(rows, *dropout_seed)
    s, cache = network.forward(
        student.canonical(), rows, student.config, student.task, dropout_state, ops,
        ForwardOptions(select, taps, project=False),
    )  # fmt: skip
    alphas = triple_loss.Alphas(
        config.alpha_ce, _alpha(config, name), config.alpha_mse, config.alpha_cos
    )
    parts, d = triple_loss.losses(s, t, labels, lm_head(student.canonical()), alphas, soft, ops)
    if not parts and not config.terms:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    states = ModelStates(s.hidden, taps or {}, rows, student.config.architecture)
    auxiliary, dterms = auxiliary_losses(
        config.terms, states, t and t.states, learned_by(student), ops
    )
    d = dterms.plus_hidden(d, ops)
    dcanonical = network.backward(d, cache, ops, dterms.taps, release=True)
    grads = student.public(dcanonical) | dterms.params

    parts = soft.convert_parts(parts | auxiliary)  # waits for a device, once it has all its work
    loss = plus_terms(triple_loss.weighted_sum(parts, alphas), parts, config.terms)
    parts = {name if part == "mlm" else part: value for part, value in parts.items()}
    return Step(loss, counting.shares.of(parts), grads)


def _alpha(config, name):
    """The weight of a loss by its name."""
    return getattr(config, f"alpha_{name}")


def _labels(student, batch, rows, config, empty):
    """The label (N,) of every row, IGNORED where it has none. empty: whether all may be."""
    if batch.get("labels") is None:
        alpha = f"alpha_{LABEL_LOSS[student.task]}"
        if getattr(config, alpha) or config.restrict_ce_to_mask:
            raise ValueError(
                f"distilling a language model needs labels in the batch; without them set {alpha} "
                f"to 0 and leave restrict_ce_to_mask out"
            )
        return np.full(len(rows.column), task_loss.IGNORED)
    given = {"labels": batch["labels"]}
    (labels,) = task_loss.right_answers(given, rows, student.config, student.logits_head, empty)
    return labels


def _selected_rows(config, labels):
    """The rows (M,) whose logits a loss reads; None for all of them, which also stands for a
    micro-batch without labels, where no loss reads logits."""
    everywhere = config.alpha_ce > 0 or config.alpha_mse > 0
    if everywhere and not config.restrict_ce_to_mask:
        return None
    rows = np.flatnonzero(labels != task_loss.IGNORED)
    return rows if len(rows) else None


def _check_arguments(student, teacher, batch, config):
    if not isinstance(config, DistillConfig):
        raise TypeError(f"config must be a DistillConfig, not {short(config)}")
    for role, model in (("student", student), ("teacher", teacher)):
        if not hasattr(model, "task"):
            raise TypeError(f"the {role} must be a model, not {short(model)}")
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch is a mapping from names to arrays, not {short(batch)}")


def check_reading(student: Model | VisionModel | Projected, config: DistillConfig) -> None:
    """Raises ValueError where the student's attention has the wrong direction for a loss: clm needs
    a causal model, and terms on queries and keys compare attention in both directions."""
    causal = student.task == "text-generation"
    if config.alpha_clm and not causal:
        raise ValueError(
            f"alpha_clm must be 0 without a causal model, not {config.alpha_clm}: a student for "
            f"{student.task!r} predicts no next word"
        )
    for term in config.terms if causal else ():
        if term.bidirectional:
            raise ValueError(
                f"the term {term.name} compares attention in both directions, which a decoder does "
                f"not have; leave it out"
            )
