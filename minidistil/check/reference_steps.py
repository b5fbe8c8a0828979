"""Some steps of AdamW with clipping and warm-up, each part of which can be replaced.

The numbers are those of `minidistil.train` (and so of torch.optim.AdamW, clip_grad_norm_ and
get_linear_schedule_with_warmup) in float64.
"""

import math

import numpy as np


def clip_global(grads, limit):
    """All gradients scaled to one common length, as clip_grad_norm_ does."""
    scale = limit / (math.sqrt(sum(float((g * g).sum()) for g in grads.values())) + 1e-6)
    return grads if scale >= 1 else {name: g * scale for name, g in grads.items()}


def warm(step, warmup, total):
    """The factor of the learning rate at step 0, 1, …: up to 1, then straight down to 0."""
    if step < warmup:
        return step / max(1, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def steps(params, gradients, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01,
          max_grad_norm=None, warmup=None, total=None, decays=lambda name, p: p.ndim > 1, l2=False,
          correct=True, clip=clip_global, factor=warm,
          root=lambda v, eps: np.sqrt(v) + eps):  # fmt: skip
    """params {name: array}, gradients: such a dict for each step  ->  params after the last.

    warmup, total: steps of the schedule, None for a constant rate. The keywords from `decays` on
    are the parts that a mistake replaces.
    """
    params = {name: np.asarray(p, np.float64) for name, p in params.items()}
    m = {name: np.zeros_like(p) for name, p in params.items()}
    v = {name: np.zeros_like(p) for name, p in params.items()}
    beta1, beta2 = betas
    for t, grads in enumerate(gradients):
        grads = {name: np.asarray(g, np.float64) for name, g in grads.items()}
        if max_grad_norm:
            grads = clip(grads, max_grad_norm)
        rate = lr if warmup is None else lr * factor(t, warmup, total)
        for name, g in grads.items():
            p = params[name]
            decay = weight_decay if decays(name, p) else 0.0
            g = g + decay * p if l2 else g
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g * g
            fair1, fair2 = (1 - beta1 ** (t + 1), 1 - beta2 ** (t + 1)) if correct else (1, 1)
            p = p if l2 else p * (1 - rate * decay)
            params[name] = p - rate / fair1 * m[name] / root(v[name] / fair2, eps)
    return params
