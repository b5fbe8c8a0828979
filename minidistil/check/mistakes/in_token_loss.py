"""Mistakes in the loss of the next token: the shift of labels, the divisor, the unit, smoothing."""

import numpy as np

from minidistil.check.families.family_ops import next_token_loss, token_loss
from minidistil.check.mistakes.registry import mistake
from minidistil.check.reference_ops import softmax
from minidistil.losses import cross_entropy

TARGETS = "loss = mean of −ln softmax(z[:, t])[label[:, t]]"
SHIFT = "loss = mean of −ln softmax(z[:, t])[label[:, t + 1]]"


@mistake(
    "label-shift-missing", "next_token_loss",
    says="The labels are not shifted: each token predicts itself.",
    yours="cross_entropy(z[:, t], label[:, t])", right=SHIFT,
    fix="the cross-entropy of logits[:, :-1] and labels[:, 1:]",
)  # fmt: skip
def label_shift_missing(logits, labels):
    return cross_entropy(logits, labels)[0]


@mistake(
    "label-shift-doubled", "next_token_loss",
    says="The labels are shifted twice: each token predicts the one after the next.",
    yours="cross_entropy(z[:, t], label[:, t + 2])", right=SHIFT,
    fix="shift once: in the data or in the model",
)  # fmt: skip
def label_shift_doubled(logits, labels):
    return cross_entropy(logits[:, :-2], labels[:, 2:])[0]


@mistake(
    "label-shift-reversed", "next_token_loss",
    says="The labels are shifted the wrong way: each token predicts the one before it.",
    yours="cross_entropy(z[:, t], label[:, t − 1])", right=SHIFT,
    fix="the cross-entropy of logits[:, :-1] and labels[:, 1:]",
)  # fmt: skip
def label_shift_reversed(logits, labels):
    return cross_entropy(logits[:, 1:], labels[:, :-1])[0]


@mistake(
    "label-shift-doubled", "token_loss",
    says="`targets` are those of the next tokens already, and the module shifts them once more.",
    yours="cross_entropy(z[:, t], target[:, t + 1])", right="cross_entropy(z[:, t], target[:, t])",
    fix="shift once; an argument named labels is given unshifted ones",
)  # fmt: skip
def target_shift_doubled(logits, targets):
    return next_token_loss(logits, targets)


@mistake(
    "loss-summed", "next_token_loss", values=("the labels", "all columns", "texts"),
    says="The loss is not the mean over the labels: it is a sum, or has another divisor ({}).",
    yours="Σ over {}, or divided by their number", right=SHIFT,
    fix="the mean over the labels (in PyTorch reduction='mean')",
)  # fmt: skip
def loss_summed(logits, labels, *, value):
    total = next_token_loss(logits, labels) * (labels[:, 1:] >= 0).sum()
    return total / {"the labels": 1, "all columns": labels[:, 1:].size, "texts": len(labels)}[value]


SMOOTHED = (0.01, 0.05, 0.1, 0.2, 0.3)
OTHER_LOSS = {
    "in bits, divided by ln 2": lambda loss: loss / np.log(2),
    "in decimal digits, divided by ln 10": lambda loss: loss / np.log(10),
    "a perplexity, exp of the loss": np.exp,
    "negated: a log-likelihood": np.negative, "its root": np.sqrt,
}  # fmt: skip


def smoothed(logits, labels, epsilon):
    """Cross-entropy with label smoothing: (1 − ε)·CE + ε·the mean over all words of −ln p."""
    rows = labels >= 0
    log_p = np.log(softmax(logits[rows]))
    return (1 - epsilon) * cross_entropy(logits, labels)[0] - epsilon * log_p.mean()


def _of_both(id, says, yours, fix, values):
    """Enter a mistake of both losses, of shifted labels and of targets, by a function of the
    logits and the labels in their columns."""

    def enter(wrong):
        for op, shift in (("next_token_loss", 1), ("token_loss", 0)):

            def with_columns(logits, labels, *, value, shift=shift):
                T = labels.shape[1]
                return wrong(logits[:, : T - shift], labels[:, shift:], value)

            mistake(id, op, says=says, yours=yours, right=SHIFT if shift else TARGETS, fix=fix,
                    values=values)(with_columns)  # fmt: skip
        return wrong

    return enter


@_of_both(
    "label-smoothing", "The loss has label smoothing, ε = {}.",
    "(1 − ε)·CE + ε·mean over all words of −ln p,  ε = {}",
    "no smoothing (in PyTorch label_smoothing=0); report it apart from the training loss", SMOOTHED,
)  # fmt: skip
def label_smoothing(logits, labels, value):
    return smoothed(logits, labels, value)


@_of_both(
    "loss-unit", "The loss is {}.", "{}", "the mean negative log-likelihood in nats",
    tuple(OTHER_LOSS),
)  # fmt: skip
def loss_unit(logits, labels, value):
    return OTHER_LOSS[value](cross_entropy(logits, labels)[0])


@_of_both(
    "loss-over-padding", "The loss counts columns without a label, as if their label were {}.",
    "−100 replaced by {} before the mean", "leave columns of label −100 out of sum and divisor",
    (0, 1, 2, 3, "none, with a loss of 0"),
)  # fmt: skip
def loss_over_padding(logits, labels, value):
    if isinstance(value, str):
        return cross_entropy(logits, labels)[0] * (labels >= 0).mean()
    return cross_entropy(logits, np.where(labels < 0, value, labels))[0]


@_of_both(
    "loss-by-text", "The loss is the mean of each text's mean, {}.", "mean of the texts' means",
    "the mean over all labels of the batch", ("over the texts with a label",),
)  # fmt: skip
def loss_by_text(logits, labels, value):
    pairs = zip(logits, labels, strict=True)
    return np.mean([cross_entropy(z[None], y[None])[0] for z, y in pairs if (y >= 0).any()])


@mistake(
    "loss-summed", "token_loss", values=("a sum", "texts"),
    says="The loss is not the mean over the targets ({}).",
    yours="Σ over the targets", right="cross_entropy(z[:, t], target[:, t])",
    fix="the mean over the labels (in PyTorch reduction='mean')",
)  # fmt: skip
def target_loss_summed(logits, targets, *, value):
    total = token_loss(logits, targets) * (targets >= 0).sum()
    return total / (1 if value == "a sum" else len(targets))
