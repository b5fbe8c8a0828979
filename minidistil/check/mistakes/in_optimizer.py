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


SPARED = {  # {where weight decay acts: parts of the names of the other parameters}
    "every parameter": (),
    "the LayerNorms not called LayerNorm": ("bias", "LayerNorm.weight"),
    "all but the biases": ("bias",),
}


@mistake(
    "decay-on-layernorm", "steps", values=tuple(SPARED),
    says="Weight decay also applies to parameters with one axis, such as LayerNorm's γ: {}.",
    yours="λ acts on {}", right=RIGHT,
    fix="two groups: parameters with one axis get weight_decay=0",
)  # fmt: skip
def decay_on_layernorm(params, gradients, *, value, **fixed):
    def update(params, grads, state, lr, betas, eps, weight_decay):
        for name in grads:
            if not any(part in name for part in SPARED[value]):
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


@mistake(
    "betas-swapped", "steps",
    says="β₁ and β₂ are swapped.",
    yours="m with β₂, v with β₁", right=RIGHT, fix="betas=(0.9, 0.999), in this order",
)  # fmt: skip
def betas_swapped(params, gradients, *, betas=(0.9, 0.999), **fixed):
    return steps(params, gradients, betas=betas[::-1], **fixed)


@mistake(
    "decay-without-lr", "steps", values=("before the step", "after the step"),
    says="Weight decay is not multiplied by the learning rate ({}).",
    yours="p ← p − λp", right=RIGHT, fix="p.mul_(1 - lr * weight_decay)",
)  # fmt: skip
def decay_without_lr(params, gradients, *, value, **fixed):
    return _decayed(params, gradients, lambda p, lr, decay: p - decay * p, value, fixed)


@mistake(
    "decay-after-step", "steps",
    says="Weight decay acts on the updated weight, after the step.",
    yours="p ← p − η·m̂/(√v̂ + ε), then p ← p − ηλp", right=RIGHT,
    fix="decay first, as torch.optim.AdamW does; the difference is of the order of η²",
)  # fmt: skip
def decay_after_step(params, gradients, **fixed):
    after = "after the step"
    return _decayed(params, gradients, lambda p, lr, decay: p - lr * decay * p, after, fixed)


def _decayed(params, gradients, decayed, when, fixed):
    """Steps whose decay of matrices is `decayed`, before or after the rest of the step."""

    def update(params, grads, state, lr, betas, eps, weight_decay):
        def decay():
            for name in grads:
                if params[name].ndim > 1:
                    params[name][...] = decayed(params[name], lr, weight_decay)

        if when.startswith("before"):
            decay()
        adamw(params, grads, state, lr, betas, eps, weight_decay=0.0)
        if when.startswith("after"):
            decay()

    return steps(params, gradients, parts=StepParts(update=update), **fixed)


@mistake(
    "adam-nesterov", "steps", values=(4e-3, 0.0),
    says="The update looks ahead (NAdam, momentum decay {}).",
    yours="p ← p − η(μ₊m/(1 − Πμ·μ₊) + (1 − μ)g/(1 − Πμ))/(√v̂ + ε)", right=RIGHT,
    fix="torch.optim.AdamW, not NAdam",
)  # fmt: skip
def nesterov(params, gradients, *, value, **fixed):
    def numerator(m, g, step, beta):
        mu = [beta * (1 - 0.5 * 0.96 ** (t * value)) for t in range(1, step + 2)]
        product = math.prod(mu[:-1])
        return mu[-1] * m / (1 - product * mu[-1]) + (1 - mu[-2]) * g / (1 - product)

    return _variant(params, gradients, fixed, numerator=numerator)


@mistake(
    "amsgrad", "steps",
    says="AMSGrad: v̂ is the largest one so far.",
    yours="p ← p − η·m̂/(√max(v̂) + ε)", right=RIGHT, fix="amsgrad=False, the default",
)  # fmt: skip
def amsgrad(params, gradients, **fixed):
    return _variant(params, gradients, fixed, largest=True)


@mistake(
    "step-from-zero", "steps", values=(-1, 1),
    says="The step of the bias correction is off by {}: it counts from another number than 1.",
    yours="m̂ = m/(1 − β₁ᵗ⁺ˢ), v̂ = v/(1 − β₂ᵗ⁺ˢ), s = {}", right=RIGHT,
    fix="step += 1 before the correction, so that the first is 1",
)  # fmt: skip
def step_from_zero(params, gradients, *, value, **fixed):
    return _variant(params, gradients, fixed, shift=value)


def _variant(params, gradients, fixed, numerator=None, largest=False, shift=0):
    """AdamW with another numerator, with the largest v so far, or with its step shifted."""

    def update(params, grads, state, lr, betas, eps, weight_decay):
        adamw(params, grads, state, 0.0, betas, eps, weight_decay)  # updates the means alone
        step, top = state["step"] + shift, state.setdefault("largest", {})
        one, two = (max(1 - beta**step, 1e-300) for beta in betas)
        for name, g in grads.items():
            p, (m, v) = params[name], state[name]
            top[name] = np.maximum(top.get(name, v), v) if largest else v
            if p.ndim > 1:
                p -= lr * weight_decay * p
            mean = m / one if numerator is None else numerator(m, g, state["step"], betas[0])
            p -= lr * mean / (np.sqrt(top[name] / two) + eps)

    return steps(params, gradients, parts=StepParts(update=update), **fixed)
