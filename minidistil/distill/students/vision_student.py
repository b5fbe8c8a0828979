"""A ViT or DeiT student initialised from some of its teacher's layers.

What both families have is copied: patches, [CLS], positions, layers, the last LayerNorm and the
head. The distillation token of a DeiT, its position and its head are initialised from the seed
where the teacher is a ViT.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from minidistil.config.vit import VISION
from minidistil.distill.students.layer_choice import check_same_function
from minidistil.model.partial_initialisation import initialise_from
from minidistil.model.vision.vision_encoder import HEADS
from minidistil.model.vision.vision_model import VisionModel, fresh
from minidistil.ops import NARROW, backend


def image_config(config, n_layers: int, family: str | None = None):
    """The teacher's config with n_layers layers, of the family "vit" or "deit" (None: its own)."""
    family = family or config.model_type
    if family not in VISION:
        raise ValueError(f"family must be one of {', '.join(VISION)} for images, not {family!r}")
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return VISION[family](**fields | {"num_hidden_layers": n_layers, "architectures": None})


def image_student(teacher: VisionModel, layers: Sequence[int], config, seed: int) -> VisionModel:
    """A student of this config whose layer i is initialised from the teacher's layer layers[i];
    what has another shape, from the seed. Raises ValueError for a config that does not fit."""
    family = teacher.config.model_type
    if config.model_type not in VISION:
        raise ValueError(f"a {config.model_type} reads no images; its teacher is a {family}")
    if len(layers) != config.num_hidden_layers:
        raise ValueError(
            f"config has {config.num_hidden_layers} layers, but {len(layers)} are named: "
            f"{list(layers)}"
        )
    check_same_function(config, teacher.config)
    ops = backend(teacher.ops.name) if teacher.dtype in NARROW else teacher.ops
    student, found = fresh(config, teacher.task, seed, ops), {}
    heads = (HEADS[c.model_type, teacher.task] for c in (config, teacher.config))
    heads = dict(zip(*heads, strict=False))
    for canonical, names in student.layout.items():
        source = teacher.layout.get(_source(canonical, layers, heads), ())
        for name, given in zip(names, source, strict=False):  # a ViT has no second token
            x = teacher.params[given]
            if canonical == "embeddings.position":
                x = _positions(student.params[name], x, config.specials, teacher.config.specials)
            found[name] = x
    student.update(initialise_from(student.params, found))
    return student


def _source(canonical, layers, heads):
    """The teacher's canonical name for a student's."""
    first, _, rest = canonical.partition(".")
    if first == "layer":
        i, _, rest = rest.partition(".")
        return f"layer.{layers[int(i)]}.{rest}"
    return f"{heads[first]}.{rest}" if first in heads else canonical


def _positions(student, teacher, n_s, n_t):
    """(1,P,C) of student and teacher, with n_s and n_t tokens before the patches  ->  the
    student's."""
    if student.shape[2] != teacher.shape[2]:
        return student
    both = min(n_s, n_t)
    return np.concatenate([teacher[:, :both], student[:, both:n_s], teacher[:, n_t:]], axis=1)
