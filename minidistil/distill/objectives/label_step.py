"""One step of distillation of a classifier of texts: of texts, tokens, answer spans or choices.

    loss = α_ce·ce + α_hard·hard + α_mse·mse + α_cos·cos

`label_targets` defines ce, hard and mse on the classifier's logits, one row for each question that
it decides; cos is the triple loss's.
"""

from collections.abc import Mapping

from minidistil.data.two_tokenizers import reads_twice
from minidistil.distill import triple_loss
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.dropout_seed import EVALUATION, DropoutSeed
from minidistil.distill.mean_counts import weighted
from minidistil.distill.objectives import Projected
from minidistil.distill.objectives.auxiliary import (
    ModelStates,
    auxiliary_losses,
    empty_taps,
    learned_by,
    plus_terms,
    tapped_layers,
)
from minidistil.distill.objectives.label_targets import (
    Comparison,
    alternatives,
    check_classes,
    class_losses,
    soft_targets_of,
)
from minidistil.distill.student import check_pair
from minidistil.distill.teachers import Teacher, teacher_outputs, types_of
from minidistil.model import network, task_loss
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.model import Model
from minidistil.model.network import ForwardOptions
from minidistil.model.output import Step

BY_LABELS = ("classifier", "out_proj", "tokens")  # heads whose classes are the config's labels


def label_step(
    student: Model | Projected, teacher: Teacher, batch: Mapping, config: DistillConfig,
    dropout_seed: DropoutSeed = EVALUATION, counting: Counting = PLAIN,
) -> Step:  # fmt: skip
    """One batch through both models  ->  Step. Arguments and errors: see `distill_step`."""
    own_words = reads_twice(batch)
    check_pair(student, teacher, config.alpha_cos > 0, own_words)
    if student.logits_head in BY_LABELS and config.alpha_ce:
        check_classes(student.config)
    tapped = tapped_layers(config.terms, student, teacher, own_words)
    rows = student.pack(batch["input_ids"], batch.get("attention_mask"), types_of(student, batch))
    ops, labels = student.ops, task_loss.given(batch)
    soft = soft_targets_of(config, alternatives(student, rows), bool(labels), ops)
    config = weighted(config, counting.shares)

    # The teacher runs first: its activations are freed before the student keeps its own.
    t = None
    if config.needs_teacher():
        t = teacher_outputs(teacher, batch, None, tapped.teacher if config.terms else None)
    taps = empty_taps(tapped.student)
    s, cache = network.forward(
        student.canonical(), rows, student.config, student.task,
        student.dropout_state(rows, *dropout_seed), ops, ForwardOptions(taps=taps, project=False),
    )  # fmt: skip
    parts, d = class_losses(s, t, labels, Comparison(student, rows, config, soft), counting)
    if config.alpha_cos:
        parts["cos"], dh = triple_loss.cosine(s.hidden[-1], t.hidden[-1], config.alpha_cos, ops)
        d = d._replace(hidden=(*d.hidden[:-1], dh))
    if not parts and not config.terms:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    states = ModelStates(s.hidden, taps or {}, rows, student.config.architecture)
    auxiliary, dterms = auxiliary_losses(
        config.terms, states, t and t.states, learned_by(student), ops
    )
    d = dterms.plus_hidden(d, ops)
    dcanonical = network.backward(d, cache, ops, dterms.taps, release=True)
    grads = student.public(dcanonical) | dterms.params

    weights = {name: getattr(config, f"alpha_{name}") for name in parts}
    parts = soft.convert_parts(parts | auxiliary)  # waits for a device, once it has all its work
    loss = sum(weight * parts[name] for name, weight in weights.items())
    loss = plus_terms(loss, parts, config.terms)
    return Step(loss, counting.shares.of(parts), grads)
