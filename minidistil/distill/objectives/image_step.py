"""One step of distillation on images: a ViT learns from labels and from a teacher, a DeiT from
either with a token of its own.

    ViT     loss = α_hard·CE(z, y) + α_ce·KL + α_mse·mse + α_cos·cos      all of the one classifier
    DeiT    α_hard·CE(z_cls, y)                      the class token learns from labels only
            α_ce·τ²·KL(softmax(z_t/τ) ‖ softmax(z_dist/τ))      eq. 2, the distillation token
            or, with hard_targets, α_ce·CE(z_dist, argmax z_t)  eq. 3  from the teacher only

with z_t the teacher's logits, and z_cls, z_dist those of the student's two classifiers, whose mean
is its output. The paper has α_hard = 1 − λ and α_ce = λ in eq. 2, and ½ and ½ in eq. 3. The teacher
reads the same pixels; it may be a ViT or a DeiT of any size, whose own patches may differ where no
hidden state is compared.
Source: Touvron et al., "Training data-efficient image transformers & distillation through
attention" (DeiT), 2021, §4. Its code averages eq. 2 over the classes, too: `convention` "deit".
"""

import dataclasses
from collections.abc import Mapping

from minidistil.distill import triple_loss
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.dropout_seed import EVALUATION, DropoutSeed
from minidistil.distill.mean_counts import weighted
from minidistil.distill.objectives.label_targets import (
    Comparison,
    check_classes,
    class_losses,
    soft_targets_of,
)
from minidistil.distill.teachers import Teacher, teacher_outputs
from minidistil.model import task_loss
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.network import Result
from minidistil.model.output import Step
from minidistil.model.vision import vision_encoder
from minidistil.model.vision.vision_model import VisionModel

WITHOUT = {  # the losses that each classifier does not have
    "cls_classifier": {"alpha_ce": 0.0, "alpha_mse": 0.0},
    "distillation_classifier": {"alpha_hard": 0.0},
    "classifier": {},
}
BOTH = (
    "a DeiT's class token learns from labels and its distillation token from the teacher, and its "
    "output is the mean of both"
)


def image_step(
    student: VisionModel, teacher: Teacher, batch: Mapping, config: DistillConfig,
    dropout_seed: DropoutSeed = EVALUATION, counting: Counting = PLAIN,
) -> Step:  # fmt: skip
    """A batch of pixel_values and labels through both models  ->  Step. Arguments and errors: see
    `distill_step`."""
    check_images(student, teacher, config)
    labels, ops = task_loss.given(batch), student.ops
    if student.config.model_type == "deit" and not labels:
        raise ValueError(f"{BOTH}; this batch has no labels")
    soft = soft_targets_of(config, student.config.num_labels, bool(labels), ops)
    config, t = weighted(config, counting.shares), None
    if config.needs_teacher():
        t = teacher_outputs(teacher, batch, None)
    s, cache, _ = student.see(batch, *dropout_seed)
    parts, dlogits, dh = {}, {}, None
    for head, z_s in s.answers.items():
        own = dataclasses.replace(config, **WITHOUT[head])
        z_t = t if own.alpha_ce or own.alpha_mse else None
        by = Comparison(student, None, own, soft)
        found, d = class_losses(Result((), logits=z_s), z_t, labels, by, counting)
        parts |= found
        if d.logits is not None:
            dlogits[head] = d.logits
    if config.alpha_cos:
        parts["cos"], dh = triple_loss.cosine(s.last, t.hidden[-1], config.alpha_cos, ops)
    if not parts:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    parts = soft.convert_parts(parts)
    loss = sum(getattr(config, f"alpha_{name}") * part for name, part in parts.items())
    grads = student.public(vision_encoder.backward(dh, dlogits, cache, ops))
    return Step(loss, counting.shares.of(parts), grads)


def check_images(student: VisionModel, teacher: Teacher, config: DistillConfig) -> None:
    """Raises ValueError for a pair that cannot read the same images, or losses it does not have."""
    s, t = student.config, teacher.config
    if student.task != teacher.task or student.task != vision_encoder.IMAGES:
        raise ValueError(
            f"images are distilled as {vision_encoder.IMAGES}: the student has {student.task!r}, "
            f"the teacher {teacher.task!r}"
        )
    shared = ["num_channels", "image_size", "num_labels"]
    inside = ["hidden_size", "patch_size", "specials"]  # specials: the tokens before the patches
    if config.alpha_cos:
        if getattr(teacher, "without_hidden", None):
            raise ValueError(teacher.without_hidden)
        shared += inside
    for name in shared:
        if getattr(s, name) != getattr(t, name):
            what = "the tokens before the patches" if name == "specials" else name
            remedy = "; set alpha_cos to 0" if name in inside else ""
            raise ValueError(
                f"student and teacher must agree in {what}: {getattr(s, name)} against "
                f"{getattr(t, name)}{remedy}"
            )
    if config.terms:
        raise ValueError(f"the term {config.terms[0].name} is for texts; leave terms out of images")
    if config.alpha_ce:
        check_classes(s)
    if s.model_type == "deit" and not (config.alpha_hard and (config.alpha_ce or config.alpha_mse)):
        raise ValueError(f"{BOTH}; give alpha_hard and alpha_ce above 0")
