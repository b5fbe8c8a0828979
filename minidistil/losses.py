"""Losses with their gradients, for people who call them directly.

Thin doors over the ops. Logits and hidden states are (…,V) or (…,C); a mask or labels have the
leading axes. Arrays may be float32 or float64: the NumPy specification computes. A mask holds 0 and
1. What is no array of real numbers, has no axis or an empty one is refused with a ValueError.
"""

import numpy as np

from minidistil.distill import conventions
from minidistil.io.arguments import number, one_of, ones_and_zeros, real, switch, whole
from minidistil.ops import backend

OPS = backend("numpy")
REDUCTIONS = ("batchmean", "mean", "sum")


def kl_divergence(student_logits, teacher_logits, temperature=2.0, mask=None,
                  reduction="batchmean", scale=True):  # fmt: skip
    """KL(teacher ‖ student) of softened logits  ->  (loss, dstudent_logits).

    reduction: "batchmean" (by selected rows), "mean" (by rows and classes) or "sum"; scale: times
    temperature². Source: Hinton et al., 2015; `KLDivLoss` as Hugging Face's distiller calls it.
    """
    options = {
        "tau": number("temperature", temperature, 0, above=True),
        "reduction": one_of("reduction", reduction, REDUCTIONS), "scale": switch("scale", scale),
    }  # fmt: skip
    return _pair(OPS.kl_div, "teacher", student_logits, teacher_logits, mask, options)


def soft_targets(student_logits, teacher_logits, temperature=2.0, convention=conventions.OURS,
                 mask=None, beside_labels=True):  # fmt: skip
    """The distillation loss as a named code base counts it  ->  (loss, dstudent_logits).

    convention: a name in the table of `minidistil.distill.conventions`, such as "huggingface" or
    "textbrewer", which also says the source of each. beside_labels: False for what torchdistill
    returns where there is no loss on labels.
    """
    from minidistil.ops.kl_div import selected  # brings Numba, for which an import is not to wait

    temperature = number("temperature", temperature, 0, above=True)
    one_of("convention", convention, conventions.CONVENTIONS)
    x, target, mask = _rows_of_pair(student_logits, teacher_logits, mask)
    rows = selected(mask, len(x))
    dx = np.zeros_like(x)
    how = temperature, convention, backend("numpy", x.dtype.name), beside_labels
    loss, dx[rows] = conventions.soft_targets(x[rows], target[rows], *how)
    return loss, dx.reshape(np.shape(student_logits))


def cross_entropy(logits, labels, ignore_index=-100, class_weights=None, label_smoothing=0.0):
    """Mean negative log-likelihood of the labels that are not ignore_index  ->  (loss, dlogits).

    class_weights: a number a class, from 0 up; the mean is then weighted by those of the labels.
    label_smoothing: how much of a label is spread over all classes, 0 to below 1.
    Source: PyTorch's CrossEntropyLoss. Raises ValueError without any label, for labels of another
    shape or outside the classes, for weights that are none, and for a smoothing out of range.
    """
    z, labels = _rows("logits", logits), np.asarray(labels)
    ignore_index = whole("ignore_index", ignore_index, -(2**31), 2**31 - 1)
    if labels.shape != np.shape(logits)[:-1]:
        raise ValueError(f"labels {labels.shape} must be {np.shape(logits)[:-1]}, as the logits")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    labels = labels.reshape(-1)
    wrong = labels[(labels != ignore_index) & ((labels < 0) | (labels >= z.shape[1]))]
    if len(wrong):
        raise ValueError(f"label {wrong[0]} is outside the {z.shape[1]} classes")
    op, how = OPS.cross_entropy, {"labels": labels, "ignore_index": ignore_index}
    if class_weights is not None or label_smoothing:
        op = OPS.weighted_cross_entropy
        how |= {"class_weights": _weights(class_weights, z.shape[1])}
        how |= {"label_smoothing": label_smoothing}
    loss, cache = op.forward(z, **how)
    return float(loss), op.backward(z.dtype.type(1), cache)[0].reshape(np.shape(logits))


def _weights(given, K):
    """class_weights as an array (K,), or None. Raises ValueError for what is none."""
    if given is None:
        return None
    weights = np.asarray(given)
    if weights.dtype.kind not in "iuf" or weights.shape != (K,):
        raise ValueError(
            f"class_weights must be {K} numbers, one a class, not {weights.dtype} {weights.shape}"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"class_weights must be finite and from 0 up, not {weights.tolist()}")
    return weights


def cosine(student_hidden, teacher_hidden, mask=None):
    """Mean of 1 − cos over the selected rows  ->  (loss, dstudent_hidden).

    Source: PyTorch's CosineEmbeddingLoss with target +1.
    """
    return _pair(OPS.cosine, "target", student_hidden, teacher_hidden, mask, {})


def mse(student, teacher, mask=None, reduction="mean"):
    """Squared error over the selected rows  ->  (loss, dstudent).

    reduction: "mean" as PyTorch's MSELoss, "batchmean" (by rows) as Hugging Face's distiller, or
    "sum".
    """
    options = {"reduction": one_of("reduction", reduction, REDUCTIONS)}
    return _pair(OPS.mse, "target", student, teacher, mask, options)


def _pair(op, role, mine, theirs, mask, options):
    x, target, mask = _rows_of_pair(mine, theirs, mask)
    loss, cache = op.forward(x, mask=mask, **{role: target}, **options)
    return float(loss), op.backward(x.dtype.type(1), cache)[0].reshape(np.shape(mine))


def _rows_of_pair(mine, theirs, mask):
    """Two arrays (…,V), mask (…) or None  ->  both (N,V) in the dtype of the first, mask (N,)."""
    mine, theirs = real("student", mine), real("teacher", theirs)
    if mine.shape != theirs.shape:
        raise ValueError(
            f"student and teacher must have one shape: {mine.shape} and {theirs.shape}"
        )
    x = _rows("student", mine)
    target = _rows("teacher", theirs).astype(x.dtype, copy=False)
    if mask is not None:
        mask = ones_and_zeros("mask", mask, mine.shape[:-1]).reshape(-1)
    return x, target, mask


def _rows(name, x):
    """(…,V)  ->  (N,V) in float32 or float64."""
    x = real(name, x)
    return x.reshape(-1, x.shape[-1]).astype(x.dtype if x.dtype == np.float64 else np.float32)
