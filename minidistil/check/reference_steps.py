"""Steps of AdamW with clipping and a schedule, each part replaceable by a faulty variant.

AdamW and the schedule are those of `minidistil/distilbert.py`, in float64. The numbers equal those
of `minidistil.train`, and so of torch.optim.AdamW, clip_grad_norm_ and
get_linear_schedule_with_warmup.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minidistil.distilbert import adamw, schedule


def clip_global(grads, limit):
    """Gradients scaled so that their common norm is at most limit, as clip_grad_norm_ does."""
    scale = limit / (math.sqrt(sum(float((g * g).sum()) for g in grads.values())) + 1e-6)
    return grads if scale >= 1 else {name: g * scale for name, g in grads.items()}


class StepParts(NamedTuple):
    """The functions of a training step; a mistake replaces one of them."""

    update: Callable = adamw  # (params, grads, state, lr, betas, eps, weight_decay), in place
    clip: Callable = clip_global  # (grads, limit) -> grads
    factor: Callable = schedule  # (step, warmup, total) -> factor of the learning rate


REFERENCE = StepParts()


def steps(params, gradients, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01,
          max_grad_norm=None, warmup=None, total=None, parts=REFERENCE):  # fmt: skip
    """params {name: array}, gradients: one such dict per step  ->  params after the last step.

    warmup, total: steps of the schedule; without warmup the learning rate is constant.
    """
    params = {name: np.array(p, np.float64) for name, p in params.items()}
    state = {}
    for step, grads in enumerate(gradients):
        grads = {name: np.asarray(g, np.float64) for name, g in grads.items()}
        if max_grad_norm:
            grads = parts.clip(grads, max_grad_norm)
        rate = lr if warmup is None else lr * parts.factor(step, warmup, total)
        parts.update(params, grads, state, rate, betas, eps, weight_decay)
    return params
