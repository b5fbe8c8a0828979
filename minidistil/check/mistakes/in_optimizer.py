"""Mistakes in the optimiser's step: AdamW, clipping, warm-up.

Each replaces one part of `steps` in `check/reference_steps.py`.
"""

import math

import numpy as np

from minidistil.check.mistakes.registry import mistake
from minidistil.check.reference_steps import StepParts, clip_global, steps
from minidistil.distilbert import adamw, schedule

RIGHT = "p ← p − η(m̂/(√v̂ + ε) + λp),  m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), λ on matrices alone"


@mistake(
    "adam-for-adamw", "steps", values=("matrices", "everything"),
    says="Weight decay is added to the gradient (Adam), not subtracted from the weight ({}).",
    yours="g ← g + λp, then Adam", right=RIGHT, fix="torch.optim.AdamW, not Adam(weight_decay=…)",
)  # fmt: skip
def adam_for_adamw(params, gradients, *, value, **fixed):
    def update(params, grads, state, lr, betas, eps, weight_decay):
        decayed = {
            name: g + weight_decay * params[name]
            for name, g in grads.items()
            if value == "everything" or params[name].ndim > 1
        }
        adamw(params, grads | decayed, state, lr, betas, eps, weight_decay=0.0)

    return steps(params, gradients, parts=StepParts(update=update), **fixed)


@mistake(
    "adam-no-bias-correction", "steps",
    says="The two means have no bias correction.",
    yours="p ← p − η·m/(√v + ε)", right=RIGHT,
    fix="divide by 1 − β₁ᵗ and 1 − β₂ᵗ; BertAdam and correct_bias=False omit that",
)  # fmt: skip
def no_bias_correction(params, gradients, **fixed):
    def update(params, grads, state, lr, betas, eps, weight_decay):
        state["step"] = math.inf  # so that 1 − β^step is 1
        adamw(params, grads, state, lr, betas, eps, weight_decay)

    return steps(params, gradients, parts=StepParts(update=update), **fixed)


@mistake(
    "decay-on-layernorm", "steps",
    values=("every parameter", "the LayerNorms not called LayerNorm", "all but the biases"),
    says="Weight decay also applies to parameters with one axis, such as LayerNorm's γ: {}.",
    yours="λ acts on {}", right=RIGHT,
    fix="two groups: parameters with one axis get weight_decay=0",
)  # fmt: skip
def decay_on_layernorm(params, gradients, *, value, **fixed):
    spared = {"e": (), "t": ("bias", "LayerNorm.weight"), "a": ("bias",)}[value[0]]

    def update(params, grads, state, lr, betas, eps, weight_decay):
        for name in grads:
            if not any(part in name for part in spared):
                params[name] -= lr * weight_decay * params[name]
        adamw(params, grads, state, lr, betas, eps, weight_decay=0.0)

    return steps(params, gradients, parts=StepParts(update=update), **fixed)


@mistake(
    "clip-per-tensor", "steps", values=("length", "value"),
    says="Gradients are clipped one tensor at a time, by {}.",
    yours="each g ← g·min(1, limit/‖g‖)", right="one norm of all gradients together",
    fix="clip_grad_norm_(model.parameters(), limit), once, on all of them",
)  # fmt: skip
def clip_per_tensor(params, gradients, *, value, **fixed):
    def clip(grads, limit):
        if value == "value":
            return {name: g.clip(-limit, limit) for name, g in grads.items()}
        return {name: clip_global({name: g}, limit)[name] for name, g in grads.items()}

    return steps(params, gradients, parts=StepParts(clip=clip), **fixed)


@mistake(
    "clip-missing", "steps",
    says="Gradients are not clipped.",
    yours="g as it is", right="g ← g·min(1, limit/‖all g‖)",
    fix="clip_grad_norm_(model.parameters(), limit) after backward and before step",
)  # fmt: skip
def clip_missing(params, gradients, **fixed):
    return steps(params, gradients, parts=StepParts(clip=lambda grads, limit: grads), **fixed)


@mistake(
    "warmup-off-by-one", "steps", values=("ahead", "behind"),
    says="The learning rate's warm-up is one step {}.",
    yours="factor (step + 1)/warmup at each step, or scheduler.step() before optimizer.step()",
    right="factor step/warmup at step 0, 1, …, so that the first factor is 0",
    fix="optimizer.step(), then scheduler.step(); count steps from 0",
)  # fmt: skip
def warmup_off_by_one(params, gradients, *, value, **fixed):
    shift = 1 if value == "ahead" else -1

    def factor(step, warmup, total):
        return schedule(max(0, step + shift), warmup, total)

    return steps(params, gradients, parts=StepParts(factor=factor), **fixed)


@mistake(
    "warmup-missing", "steps",
    says="The learning rate is not warmed up.",
    yours="η at every step", right="η·step/warmup, then linear decay to 0",
    fix="scheduler.step() after every optimizer.step()",
)  # fmt: skip
def warmup_missing(params, gradients, **fixed):
    constant = StepParts(factor=lambda step, warmup, total: 1.0)
    return steps(params, gradients, parts=constant, **fixed)


@mistake(
    "eps-inside-root", "steps",
    says="ε is inside the square root.",
    yours="p ← p − η·m̂/√(v̂ + ε)", right=RIGHT, fix="√v̂ + ε",
)  # fmt: skip
def eps_inside_root(params, gradients, **fixed):
    def update(params, grads, state, lr, betas, eps, weight_decay):
        adamw(params, grads, state, 0.0, betas, eps, weight_decay)  # updates the means alone
        correction1, correction2 = (1 - beta ** state["step"] for beta in betas)
        for name in grads:
            p, (m, v) = params[name], state[name]
            if p.ndim > 1:
                p -= lr * weight_decay * p
            p -= lr * (m / correction1) / np.sqrt(v / correction2 + eps)

    return steps(params, gradients, parts=StepParts(update=update), **fixed)
