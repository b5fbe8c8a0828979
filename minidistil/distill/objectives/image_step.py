"""One step of distillation on images: a ViT learns from labels and from a teacher, a DeiT from
either with a token of its own.

    ViT     loss = α_hard·CE(z, y) + α_ce·KL + α_mse·mse + α_cos·cos      all of the one classifier
    DeiT    α_hard·CE(z_cls, y)                      the class token hears the labels alone
            α_ce·τ²·KL(softmax(t/τ) ‖ softmax(z_dist/τ))      eq. 2, the distillation token the
            or, with hard_targets, α_ce·CE(z_dist, argmax t)  eq. 3  teacher alone

with t the teacher's logits, and z_cls, z_dist those of the student's two classifiers, whose mean is
its answer. The paper has α_hard = 1 − λ and α_ce = λ in eq. 2, and ½ and ½ in eq. 3. The teacher
reads the same pixels; it may be a ViT or a DeiT of any size, whose own patches may differ where no
hidden state is compared.
Source: Touvron et al., "Training data-efficient image transformers & distillation through
attention" (DeiT), 2021, §4. Its code averages eq. 2 over the classes, too: `convention` "deit".
"""

import dataclasses

from minidistil.distill import shared_losses
from minidistil.distill.mean_counts import weighted
from minidistil.distill.objectives.label_targets import check_classes, class_losses, soft_targets_of
from minidistil.distill.teachers import teacher_outputs
from minidistil.model import task_loss
from minidistil.model.label_counts import PLAIN
from minidistil.model.network import Result
from minidistil.model.output import Step
from minidistil.model.vision import vision_encoder

SILENT = {  # of a DeiT, the losses that each classifier does not hear
    "cls_classifier": {"alpha_ce": 0.0, "alpha_mse": 0.0},
    "distillation_classifier": {"alpha_hard": 0.0},
    "classifier": {},
}
BOTH = (
    "a DeiT's class token learns from labels and its distillation token from the teacher, and its "
    "answer is the mean of both"
)


def image_step(student, teacher, batch, config, train, seed, step, first_sequence,
               counting=PLAIN):  # fmt: skip
    """A batch of pixel_values and labels through both models  ->  Step. Arguments and errors as
    `distill_step`."""
    check_images(student, teacher, config)
    given, ops = task_loss.given(batch), student.ops
    if student.config.model_type == "deit" and not given:
        raise ValueError(f"{BOTH}; this batch has no labels")
    soft = soft_targets_of(config, student.config.num_labels, bool(given), ops)
    config, theirs = weighted(config, counting.shares), None
    if config.alpha_ce or config.alpha_mse or config.alpha_cos:
        theirs = teacher_outputs(teacher, batch, None)
    seen, cache, _ = student.see(batch, train, seed, step, first_sequence)
    parts, d, dh = {}, {}, None
    for head, logits in seen.answers.items():
        heard, mine = dataclasses.replace(config, **SILENT[head]), Result((), logits=logits)
        told = theirs if heard.alpha_ce or heard.alpha_mse else None
        found, back = class_losses(mine, told, given, None, heard, soft, student, counting)
        parts |= found
        if back.logits is not None:
            d[head] = back.logits
    if config.alpha_cos:
        parts["cos"], dh = shared_losses.cosine(seen.last, theirs.hidden[-1], config.alpha_cos, ops)
    if not parts:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    parts = soft.counted(parts)
    loss = sum(getattr(config, f"alpha_{name}") * part for name, part in parts.items())
    grads = student.public(vision_encoder.backward(dh, d, cache, ops))
    return Step(loss, counting.shares.of(parts), grads)


def check_images(student, teacher, config):
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
            said = "the tokens before the patches" if name == "specials" else name
            remedy = "; set alpha_cos to 0" if name in inside else ""
            raise ValueError(
                f"student and teacher must agree in {said}: {getattr(s, name)} against "
                f"{getattr(t, name)}{remedy}"
            )
    if config.terms:
        raise ValueError(f"the term {config.terms[0].name} is for texts; leave terms out of images")
    if config.alpha_ce:
        check_classes(s)
    if s.model_type == "deit" and not (config.alpha_hard and (config.alpha_ce or config.alpha_mse)):
        raise ValueError(f"{BOTH}; give alpha_hard and alpha_ce above 0")
