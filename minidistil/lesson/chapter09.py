"""Chapter 9, training: one step of AdamW."""

from functools import partial

import numpy as np

from minidistil.lesson.exercise import call, exercise, rng


def inputs():
    """Step 3, so that 1 − βᵗ is not 1 − β; an ε of the size of √v, and a large rate and decay."""
    p, m, g = rng(9).standard_normal((3, 3, 4))
    options = {"beta1": 0.9, "beta2": 0.99, "eps": 0.3, "decay": 0.4}
    return [(p, 0.3 * m, rng(10).random((3, 4)), g, 3, 0.2, options)]


def run(attempt, *args):
    *arrays, options = args
    return call(partial(attempt, **options), *arrays)


@exercise(
    cases=inputs,
    run=run,
    hint="First the two means, then their corrected values, then the decay of the old p and the "
    "step of it.",
)
def adamw(p, m, v, g, t, lr, *, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.1):
    """p − η·λ·p − η·m̂/(√v̂ + ε)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    direction = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return p - lr * decay * p - lr * direction


@adamw.right
def as_on_the_page(p, m, v, g, t, lr, *, beta1, beta2, eps, decay):
    """In place, as `minidistil/distilbert.py` has it."""
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    p -= lr * decay * p
    p -= lr / (1 - beta1**t) * m / (np.sqrt(v) / np.sqrt(1 - beta2**t) + eps)
    return p


def averages(m, v, g, beta1, beta2):
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g


def corrected(m, v, beta1, beta2, t):
    return m / (1 - beta1**t), v / (1 - beta2**t)


def variant(
    *, means=averages, correct=corrected, root=lambda v, eps: np.sqrt(v) + eps, sign=1, decayed=None
):
    """AdamW with one part of it changed."""

    def changed(p, m, v, g, t, lr, *, beta1, beta2, eps, decay):
        m, v = correct(*means(m, v, g, beta1, beta2), beta1, beta2, t)
        step = lr * m / root(v, eps)
        if decayed is not None:
            return decayed(p, step, lr, decay)
        return p - lr * decay * p - sign * step

    return changed


wrong = adamw.wrong
wrong("the means start at zero: divide them by 1 − βᵗ (bias correction)")(
    variant(correct=lambda m, v, beta1, beta2, t: (m, v))
)
wrong("the correction is 1 − βᵗ, with t the number of the step: this is 1 − β")(
    variant(correct=lambda m, v, beta1, beta2, t: corrected(m, v, beta1, beta2, 1))
)
wrong("t is the number of the step, from 1: this is 1 − βᵗ⁻¹")(
    variant(correct=lambda m, v, beta1, beta2, t: corrected(m, v, beta1, beta2, t - 1))
)
wrong("the correction is 1 − βᵗ, a power: this is 1 − β·t")(
    variant(correct=lambda m, v, beta1, beta2, t: (m / (1 - beta1 * t), v / (1 - beta2 * t)))
)
wrong("only m is corrected: v is divided by 1 − β₂ᵗ, too")(
    variant(correct=lambda m, v, beta1, beta2, t: (m / (1 - beta1**t), v))
)
wrong("only v is corrected: m is divided by 1 − β₁ᵗ, too")(
    variant(correct=lambda m, v, beta1, beta2, t: (m, v / (1 - beta2**t)))
)
wrong("both are corrected with β₁: v has β₂")(
    variant(correct=lambda m, v, beta1, beta2, t: corrected(m, v, beta1, beta1, t))
)
wrong("ε stands inside the root: it is added to √v̂, outside")(
    variant(root=lambda v, eps: np.sqrt(v + eps))
)
wrong("ε is missing")(variant(root=lambda v, eps: np.sqrt(v)))
wrong("v is a mean of squares: its root is missing")(variant(root=lambda v, eps: v + eps))
wrong("the step goes against the gradient: its sign is wrong")(variant(sign=-1))
wrong("the weights of the mean are exchanged: β of the old value, 1 − β of the new")(
    variant(means=lambda m, v, g, beta1, beta2: averages(m, v, g, 1 - beta1, 1 - beta2))
)
wrong("v is a mean of g², this is one of g")(
    variant(means=lambda m, v, g, b1, b2: (averages(m, v, g, b1, b2)[0], b2 * v + (1 - b2) * g))
)
wrong("the new gradient is not in the means yet: update m and v first")(
    variant(means=lambda m, v, g, beta1, beta2: (m, v))
)
wrong("the decay is missing")(variant(decayed=lambda p, step, lr, decay: p - step))
wrong("the decay is not multiplied by the learning rate")(
    variant(decayed=lambda p, step, lr, decay: p - decay * p - step)
)
wrong("the decay acts on the old p, not on the one after the step")(
    variant(decayed=lambda p, step, lr, decay: (p - step) * (1 - lr * decay))
)
wrong("the decay is subtracted, not added")(
    variant(decayed=lambda p, step, lr, decay: p + lr * decay * p - step)
)


@wrong("this is Adam with L2: decay acts on the weight itself, past the moments")
def coupled(p, m, v, g, *rest, decay, **options):
    return adamw(p, m, v, g + decay * p, *rest, decay=0.0, **options)


@wrong("ε is added to √v before its correction: divide by √(1 − β₂ᵗ) first")
def uncorrected_eps(*args, beta2, eps, **options):
    return adamw(*args, beta2=beta2, eps=eps / np.sqrt(1 - beta2 ** args[4]), **options)


@wrong("this is the change of p, not the new p")
def change(*args, **options):
    return adamw(*args, **options) - args[0]
