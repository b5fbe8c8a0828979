"""A student of images made from some of its teacher's layers; a DeiT may start as a ViT.

What both families have is copied: patches, [CLS], positions, layers, the last LayerNorm and the
head. A DeiT that starts as a ViT gets its second token, that token's position and its head anew.
"""

import dataclasses

import numpy as np

from minidistil.config.vit import VISION
from minidistil.distill.students.layer_choice import check_same_function
from minidistil.model.partial_initialisation import initialise_from
from minidistil.model.vision.vision_encoder import HEADS
from minidistil.model.vision.vision_model import fresh
from minidistil.ops import NARROW, backend


def image_config(config, n_layers, family=None):
    """The teacher's config with n_layers layers, of the family "vit" or "deit" (None: its own)."""
    family = family or config.model_type
    if family not in VISION:
        raise ValueError(f"family must be one of {', '.join(VISION)} for images, not {family!r}")
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return VISION[family](**fields | {"num_hidden_layers": n_layers, "architectures": None})


def image_student(teacher, layers, config, seed):
    """A student of this config whose layer i starts as the teacher's layer layers[i]; what has
    another shape starts from seed. Raises ValueError for a config that does not fit."""
    mine, theirs = config, teacher.config
    if mine.model_type not in VISION:
        raise ValueError(f"a {mine.model_type} reads no images; its teacher is a "
                         f"{theirs.model_type}")  # fmt: skip
    if len(layers) != mine.num_hidden_layers:
        raise ValueError(
            f"config has {mine.num_hidden_layers} layers, but {len(layers)} are named: "
            f"{list(layers)}"
        )
    check_same_function(mine, theirs)
    ops = backend(teacher.ops.name) if teacher.dtype in NARROW else teacher.ops
    student, found = fresh(config, teacher.task, seed, ops), {}
    heads = (HEADS[c.model_type, teacher.task] for c in (mine, theirs))
    heads = dict(zip(*heads, strict=False))
    for canonical, names in student.layout.items():
        source = teacher.layout.get(_source(canonical, layers, heads), ())
        for name, given in zip(names, source, strict=False):  # a ViT has no second token
            x = teacher.params[given]
            if canonical == "embeddings.position":
                x = _positions(student.params[name], x, mine.specials, theirs.specials)
            found[name] = x
    student.update(initialise_from(student.params, found))
    return student


def _source(canonical, layers, heads):
    """The teacher's canonical name of what the student's starts as."""
    first, _, rest = canonical.partition(".")
    if first == "layer":
        i, _, rest = rest.partition(".")
        return f"layer.{layers[int(i)]}.{rest}"
    return f"{heads[first]}.{rest}" if first in heads else canonical


def _positions(mine, theirs, m, t):
    """(1,P,C) of student and teacher, with m and t tokens before the patches  ->  the student's."""
    if mine.shape[2] != theirs.shape[2]:
        return mine
    both = min(m, t)
    return np.concatenate([theirs[:, :both], mine[:, both:m], theirs[:, t:]], axis=1)
