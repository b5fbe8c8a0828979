"""Chapter 8, the losses: the soft loss and its gradient."""

import numpy as np

from minidistil.check import explain
from minidistil.lesson.exercise import exercise, rng


def inputs():
    """Logits (5,11) of student and teacher, and τ = 3: no two of N, V, τ and τ² are equal."""
    return [(*2 * rng(8).standard_normal((2, 5, 11)), 3.0)]


def log_softmax(z, axis=-1):
    z = z - z.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


# ----------------------------------------------------------------------------- the loss


def explained(answer, student, teacher, tau):
    return explain("kl_div", answer, student, teacher, tau=tau)


@exercise(
    cases=inputs,
    explained=explained,
    hint="log_p = log_softmax(student / tau), log_t likewise; then Σ_v t_v·(log_t − log_p).",
)
def soft_loss(student, teacher, tau):
    """τ²·mean over the rows of KL(t ‖ p)."""

    def log_softmax(z):
        z = z - z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    log_p, log_t = log_softmax(student / tau), log_softmax(teacher / tau)
    return tau**2 * (np.exp(log_t) * (log_t - log_p)).sum(axis=1).mean()


@soft_loss.right
def row_by_row(student, teacher, tau):
    """With probabilities and np.log, one row after the other."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p_s, p_t = (np.exp(z / tau) / np.exp(z / tau).sum() for z in (s, t))
        total += (p_t * np.log(p_t / p_s)).sum()
    return tau * tau * total / len(student)


def divergence(student, teacher, *, tau_s, tau_t, entropy=1.0, axis=-1):
    """Σ over the words of t·(ln t − ln p), for each row."""
    log_p, log_t = log_softmax(student / tau_s, axis), log_softmax(teacher / tau_t, axis)
    return (np.exp(log_t) * (entropy * log_t - log_p)).sum(axis=axis)


wrong = soft_loss.wrong
wrong("the divergence is the other way round: the teacher's probabilities are the weights")(
    lambda s, t, tau: soft_loss(t, s, tau)
)
wrong("τ² is missing")(lambda s, t, tau: soft_loss(s, t, tau) / tau**2)
wrong("the factor is τ², this is τ")(lambda s, t, tau: soft_loss(s, t, tau) / tau)
wrong("this is a sum over the rows, not their mean")(
    lambda s, t, tau: len(s) * soft_loss(s, t, tau)
)
wrong("the mean runs over rows; this divides by the number of words, too")(
    lambda s, t, tau: soft_loss(s, t, tau) / s.shape[1]
)
wrong("the sign: KL is not negative")(lambda s, t, tau: -soft_loss(s, t, tau))
wrong("this is the cross entropy: the teacher's own entropy is to be subtracted")(
    lambda s, t, tau: tau**2 * divergence(s, t, tau_s=tau, tau_t=tau, entropy=0.0).mean()
)
wrong("the teacher's logits are not divided by τ")(
    lambda s, t, tau: tau**2 * divergence(s, t, tau_s=tau, tau_t=1.0).mean()
)
wrong("the student's logits are not divided by τ")(
    lambda s, t, tau: tau**2 * divergence(s, t, tau_s=1.0, tau_t=tau).mean()
)
wrong("the logits are not divided by τ, those of neither")(
    lambda s, t, tau: tau**2 * divergence(s, t, tau_s=1.0, tau_t=1.0).mean()
)
wrong("the logits are multiplied by τ: a temperature divides")(
    lambda s, t, tau: tau**2 * divergence(s, t, tau_s=1 / tau, tau_t=1 / tau).mean()
)
wrong("the softmax runs over the rows (axis 0): the words of a row are axis 1")(
    lambda s, t, tau: tau**2 * divergence(s, t, tau_s=tau, tau_t=tau, axis=0).sum() / len(s)
)

# ----------------------------------------------------------------------------- its gradient


@exercise(
    cases=inputs,
    hint="∂KL/∂z = (p − t)/τ for a row; then τ², and the mean over N rows.",
)
def soft_gradient(student, teacher, tau):
    """τ·(p − t)/N."""

    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return tau * (softmax(student / tau) - softmax(teacher / tau)) / len(student)


@soft_gradient.right
def with_all_factors(student, teacher, tau):
    p, t = np.exp(log_softmax(student / tau)), np.exp(log_softmax(teacher / tau))
    return tau**2 * (p - t) / tau / len(student)


def softened(z, tau):
    return np.exp(log_softmax(z / tau))


wrong = soft_gradient.wrong
wrong("the loss is a mean over rows: divide by N")(
    lambda s, t, tau: len(s) * soft_gradient(s, t, tau)
)
wrong("τ²·(1/τ) leaves one τ")(lambda s, t, tau: soft_gradient(s, t, tau) / tau)
wrong("1/τ is missing: the logits are divided by τ before the softmax")(
    lambda s, t, tau: tau * soft_gradient(s, t, tau)
)
wrong("τ² is missing")(lambda s, t, tau: soft_gradient(s, t, tau) / tau**2)
wrong("the sign: the gradient is p − t")(lambda s, t, tau: -soft_gradient(s, t, tau))
wrong("the loss is a mean over rows: divide by N alone, not by the number of words, too")(
    lambda s, t, tau: soft_gradient(s, t, tau) / s.shape[1]
)
wrong("the teacher's logits are not divided by τ")(
    lambda s, t, tau: tau * (softened(s, tau) - softened(t, 1.0)) / len(s)
)
wrong("the student's logits are not divided by τ")(
    lambda s, t, tau: tau * (softened(s, 1.0) - softened(t, tau)) / len(s)
)
wrong("the logits are not divided by τ, those of neither")(
    lambda s, t, tau: tau * (softened(s, 1.0) - softened(t, 1.0)) / len(s)
)
wrong("p and t are probabilities: the softmax is missing")(
    lambda s, t, tau: tau * (s / tau - t / tau) / len(s)
)
wrong("this is the gradient with respect to the teacher's part alone, −t")(
    lambda s, t, tau: -tau * softened(t, tau) / len(s)
)
