"""Mistakes in the optimiser's step: AdamW, clipping, warm-up. `check.steps` has the right one."""

from minidistil.check.mistakes.registry import mistake
from minidistil.check.reference_steps import clip_global, steps, warm

RIGHT = "p ← p − η(m̂/(√v̂ + ε) + λp),  m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), λ on matrices alone"


@mistake(
    "adam-for-adamw", "steps", values=("matrices", "everything"),
    says="Weight decay is added to the gradient (Adam), not taken from the weight ({}).",
    yours="g ← g + λp, then Adam", right=RIGHT, fix="torch.optim.AdamW, not Adam(weight_decay=…)",
)  # fmt: skip
def adam_for_adamw(params, gradients, *, value, **fixed):
    everything = value == "everything"
    return steps(
        params, gradients, decays=(lambda name, p: everything or p.ndim > 1), l2=True, **fixed
    )


@mistake(
    "adam-no-bias-correction", "steps",
    says="The two means are not corrected for starting at zero.",
    yours="p ← p − η·m/(√v + ε)", right=RIGHT,
    fix="divide by 1 − β₁ᵗ and 1 − β₂ᵗ; BertAdam and correct_bias=False leave that out",
)  # fmt: skip
def no_bias_correction(params, gradients, **fixed):
    return steps(params, gradients, correct=False, **fixed)


@mistake(
    "decay-on-layernorm", "steps",
    values=("every parameter", "the LayerNorms not called LayerNorm", "all but the biases"),
    says="Weight decay also shrinks what has one axis, such as LayerNorm's γ: {}.",
    yours="λ acts on {}", right=RIGHT,
    fix="two groups: parameters with one axis get weight_decay=0",
)  # fmt: skip
def decay_on_layernorm(params, gradients, *, value, **fixed):
    spared = {"e": (), "t": ("bias", "LayerNorm.weight"), "a": ("bias",)}[value[0]]
    return steps(
        params, gradients, decays=lambda name, p: not any(s in name for s in spared), **fixed
    )


@mistake(
    "clip-per-tensor", "steps", values=("length", "value"),
    says="Gradients are clipped one tensor at a time, by {}.",
    yours="each g ← g·min(1, limit/‖g‖)", right="one length over all gradients together",
    fix="clip_grad_norm_(model.parameters(), limit), once, on all of them",
)  # fmt: skip
def clip_per_tensor(params, gradients, *, value, **fixed):
    def clip(grads, limit):
        if value == "value":
            return {name: g.clip(-limit, limit) for name, g in grads.items()}
        return {name: clip_global({name: g}, limit)[name] for name, g in grads.items()}

    return steps(params, gradients, clip=clip, **fixed)


@mistake(
    "clip-missing", "steps",
    says="Gradients are not clipped.",
    yours="g as it is", right="g ← g·min(1, limit/‖all g‖)",
    fix="clip_grad_norm_(model.parameters(), limit) after backward and before step",
)  # fmt: skip
def clip_missing(params, gradients, **fixed):
    return steps(params, gradients, clip=lambda grads, limit: grads, **fixed)


@mistake(
    "warmup-off-by-one", "steps", values=("ahead", "behind"),
    says="The learning rate's warm-up is one step {}.",
    yours="factor (t + 1)/warmup at step t, or the schedule stepped before the optimiser",
    right="factor t/warmup at step t = 0, 1, …, so that the first step's is 0",
    fix="optimizer.step(), then scheduler.step(); count steps from 0",
)  # fmt: skip
def warmup_off_by_one(params, gradients, *, value, **fixed):
    shift = 1 if value == "ahead" else -1

    def factor(step, warmup, total):
        return warm(max(0, step + shift), warmup, total)

    return steps(params, gradients, factor=factor, **fixed)


@mistake(
    "warmup-missing", "steps",
    says="The learning rate is not warmed up.",
    yours="η at every step", right="η·t/warmup, then straight down to 0",
    fix="scheduler.step() after every optimizer.step()",
)  # fmt: skip
def warmup_missing(params, gradients, **fixed):
    return steps(params, gradients, factor=lambda step, warmup, total: 1.0, **fixed)


@mistake(
    "eps-inside-root", "steps",
    says="ε stands inside the root.",
    yours="p ← p − η·m̂/√(v̂ + ε)", right=RIGHT, fix="√v̂ + ε",
)  # fmt: skip
def eps_inside_root(params, gradients, **fixed):
    return steps(params, gradients, root=lambda v, eps: (v + eps) ** 0.5, **fixed)
