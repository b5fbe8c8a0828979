"""Mistakes in the losses: KL divergence, cosine, cross-entropy."""

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake
from minidistil.distilbert import log_softmax

KL = (
    "τ²·Σ p_t·(ln p_t − ln p_s)/N over the N real tokens,  p_t = softmax(z_t/τ), "
    "p_s = softmax(z_s/τ)"
)


def _rows(x, mask):
    """(…,V)  ->  the real tokens' rows (N,V)."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if mask is None else flat[np.asarray(mask, bool).reshape(-1)]


def _log_pair(student, teacher, mask, tau, teacher_tau=None):
    """Logits (…,V)  ->  log-probabilities of the student and of the teacher, (N,V) each."""
    log_t = log_softmax(_rows(teacher, mask) / (tau if teacher_tau is None else teacher_tau))
    return log_softmax(_rows(student, mask) / tau), log_t


@mistake(
    "kl-arguments-swapped", "kl_div",
    says="The KL divergence has student and teacher swapped.",
    yours="KL(student ‖ teacher) = Σ p_s·(ln p_s − ln p_t)", right="KL(teacher ‖ student): " + KL,
    fix="F.kl_div(log_softmax(z_s/τ), softmax(z_t/τ)): the student's log-probabilities first",
)  # fmt: skip
def arguments_swapped(student, teacher, *, mask=None, tau=2.0):
    return reference_ops.kl_div(teacher, student, mask=mask, tau=tau)


@mistake(
    "kl-tau-squared-missing", "kl_div",
    says="The KL divergence is not multiplied by τ².",
    yours="Σ p_t·(ln p_t − ln p_s)/N", right=KL, fix="multiply by temperature**2",
)  # fmt: skip
def tau_squared_missing(student, teacher, *, mask=None, tau=2.0):
    return reference_ops.kl_div(student, teacher, mask=mask, tau=tau) / tau**2


@mistake(
    "kl-tau-once", "kl_div",
    says="The KL divergence is multiplied by τ, not by τ².",
    yours="τ·Σ p_t·(ln p_t − ln p_s)/N", right=KL, fix="multiply by temperature**2",
)  # fmt: skip
def tau_once(student, teacher, *, mask=None, tau=2.0):
    return reference_ops.kl_div(student, teacher, mask=mask, tau=tau) / tau


@mistake(
    "kl-tau-one-side", "kl_div", values=("teacher", "student"),
    says="Only the {}'s logits are divided by the temperature.",
    yours="softmax of the other's logits without temperature", right=KL,
    fix="divide the logits of both by the temperature",
)  # fmt: skip
def tau_one_side(student, teacher, *, mask=None, tau=2.0, value):
    sides = (1, tau) if value == "teacher" else (tau, 1)
    log_s, log_t = _log_pair(student, teacher, mask, *sides)
    return tau**2 * (np.exp(log_t) * (log_t - log_s)).sum() / len(log_s)


@mistake(
    "kl-reduction-mean", "kl_div",
    says="The KL divergence is averaged over tokens and classes.",
    yours="τ²·Σ p_t·(ln p_t − ln p_s)/(N·V)", right=KL,
    fix='reduction="batchmean" on (N,V); "mean" divides by V as well',
)  # fmt: skip
def reduction_mean(student, teacher, *, mask=None, tau=2.0):
    return reference_ops.kl_div(student, teacher, mask=mask, tau=tau) / student.shape[-1]


@mistake(
    "kl-reduction-sum", "kl_div", values=("not divided", "divided by the B sequences"),
    says="The KL divergence is summed over tokens ({}).",
    yours="τ²·Σ p_t·(ln p_t − ln p_s), {}", right=KL,
    fix='select the real tokens, (N,V), then reduction="batchmean"',
)  # fmt: skip
def reduction_sum(student, teacher, *, mask=None, tau=2.0, value):
    total = reference_ops.kl_div(student, teacher, mask=mask, tau=tau) * len(_rows(student, mask))
    return total if value == "not divided" else total / len(student)


PADDED = {
    "divided by all columns": lambda rows, real, B: rows,
    "divided by the B sequences": lambda rows, real, B: B,
    "divided by the real tokens": lambda rows, real, B: real,
    "not divided": lambda rows, real, B: 1,
}


@mistake(
    "kl-over-padding", "kl_div", values=tuple(PADDED),
    says="The KL divergence includes the padding ({}).",
    yours="the sum runs over all B·T columns, {}", right=KL,
    fix="select with attention_mask first: logits[mask == 1]",
)  # fmt: skip
def over_padding(student, teacher, *, mask=None, tau=2.0, value):
    rows, real = len(_rows(student, None)), len(_rows(student, mask))
    total = reference_ops.kl_div(student, teacher, tau=tau) * rows
    return total / PADDED[value](rows, real, len(student))


LOGS = {  # the terms of the sum, from log-probabilities
    "probabilities of the student where logs are expected": lambda log_s, log_t: (
        np.exp(log_t) * (log_t - np.exp(log_s))
    ),
    "logs of the teacher where probabilities are expected": lambda log_s, log_t: np.full_like(
        log_t, np.nan
    ),
    "log_target=True with probabilities": lambda log_s, log_t: (
        np.exp(np.exp(log_t)) * (np.exp(log_t) - log_s)
    ),
    "a log of logs": lambda log_s, log_t: np.full_like(log_t, np.nan),
}


@mistake(
    "kl-log-twice", "kl_div", values=tuple(LOGS),
    says="A logarithm is taken twice or is missing: {}.",
    yours="{}", right=KL,
    fix="F.kl_div(log_softmax(z_s/τ), softmax(z_t/τ)): log-probabilities, then probabilities",
)  # fmt: skip
def log_twice(student, teacher, *, mask=None, tau=2.0, value):
    log_s, log_t = _log_pair(student, teacher, mask, tau)
    return tau**2 * LOGS[value](log_s, log_t).sum() / len(log_s)


@mistake(
    "kl-cross-entropy", "kl_div",
    says="The cross-entropy with soft targets replaces the KL divergence.",
    yours="−τ²·Σ p_t·ln p_s/N: larger by the teacher's entropy, with the same gradient", right=KL,
    fix="subtract the teacher's entropy, or keep it: only the value of the loss differs",
)  # fmt: skip
def soft_cross_entropy(student, teacher, *, mask=None, tau=2.0):
    log_s, log_t = _log_pair(student, teacher, mask, tau)
    return -(tau**2) * (np.exp(log_t) * log_s).sum() / len(log_s)


COSINE = "mean over the real tokens of 1 − cos(student, teacher)"


def _cosines(student, teacher, mask):
    s, t = _rows(student, mask), _rows(teacher, mask)
    return (s * t).sum(-1) / np.sqrt((s * s).sum(-1) * (t * t).sum(-1))


TARGETS = {
    "the target is −1": lambda c: np.maximum(c, 0),
    "cos itself, without 1 −": lambda c: c,
    "−cos, without 1": lambda c: -c,
}


@mistake(
    "cosine-target", "cosine", values=tuple(TARGETS),
    says="The cosine loss has the wrong target: {}.",
    yours="{}", right=COSINE, fix="CosineEmbeddingLoss with a target of ones, or 1 − cos",
)  # fmt: skip
def cosine_target(student, teacher, *, mask=None, value):
    return TARGETS[value](_cosines(student, teacher, mask)).mean()


@mistake(
    "cosine-over-padding", "cosine",
    says="The cosine loss includes the padding.",
    yours="the mean runs over all B·T columns", right=COSINE,
    fix="select with attention_mask first: hidden[mask == 1]",
)  # fmt: skip
def cosine_over_padding(student, teacher, *, mask=None):
    return reference_ops.cosine(student, teacher)


CE = "mean of −ln softmax(logits)[label] over the tokens whose label is not −100"


@mistake(
    "ce-ignore-index", "cross_entropy",
    values=("−100 counts as word 0", "word 0 is ignored as well", "word 0 is ignored, −100 too "
            "but in the mean"),
    says="The cross-entropy does not ignore exactly the label −100: {}.",
    yours="{}", right=CE, fix="ignore_index=-100, PyTorch's default, on unchanged labels",
)  # fmt: skip
def ce_ignore_index(logits, labels, *, ignore_index=-100, value):
    zeroed = np.where(labels == ignore_index, 0, labels)
    if value.startswith("−100"):
        return reference_ops.cross_entropy(logits, zeroed)
    loss = reference_ops.cross_entropy(logits, zeroed, ignore_index=0)
    return loss if value.endswith("well") else loss * (zeroed != 0).mean()


@mistake(
    "ce-over-all-positions", "cross_entropy",
    values=("divided by all B·T columns", "divided by the B sequences", "not divided"),
    says="The cross-entropy is not a mean over the labelled tokens: {}.",
    yours="Σ −ln softmax(logits)[label], {}", right=CE,
    fix="divide by the number of labels that are not −100",
)  # fmt: skip
def ce_over_all_positions(logits, labels, *, ignore_index=-100, value):
    total = reference_ops.cross_entropy(logits, labels, ignore_index=ignore_index)
    total = total * (labels != ignore_index).sum()
    return (
        total / {"d": labels.size, "n": 1}[value[0]] if "B s" not in value else total / len(labels)
    )
