"""Losses with their gradients, as functions of padded arrays: (loss, gradient).

They call the NumPy specification of the ops, in float32 or float64.

    z_s, z_t   logits of student and teacher       p_s, p_t   softmax(z_s/tau), softmax(z_t/tau)

Logits and hidden states are (…,V) or (…,C); labels and a mask of 0 and 1 have the leading axes.
Raises ValueError for arrays that are not real numbers and for an empty axis.
"""

import numpy as np

from minidistil.distill import conventions
from minidistil.io.arguments import number, one_of, ones_and_zeros, real, switch, whole
from minidistil.ops import backend

OPS = backend("numpy")
REDUCTIONS = ("batchmean", "mean", "sum")
LossAndGradient = tuple[float, np.ndarray]


def kl_divergence(
    student_logits: np.ndarray, teacher_logits: np.ndarray, temperature: float = 2.0,
    mask: np.ndarray | None = None, reduction: str = "batchmean", scale: bool = True,
) -> LossAndGradient:  # fmt: skip
    """KL(p_t ‖ p_s) = Σ_v p_t·(ln p_t − ln p_s), with tau = temperature  ->  (loss, dz_s).

    reduction: "batchmean" (mean over the selected rows), "mean" (over rows and classes) or "sum".
    scale: multiply by tau². Source: Hinton et al., 2015; PyTorch's KLDivLoss as Hugging Face's
    distiller calls it.
    """
    options = {
        "tau": number("temperature", temperature, 0, above=True),
        "reduction": one_of("reduction", reduction, REDUCTIONS), "scale": switch("scale", scale),
    }  # fmt: skip
    return _pair(OPS.kl_div, "teacher", student_logits, teacher_logits, mask, options)


def soft_targets(
    student_logits: np.ndarray, teacher_logits: np.ndarray, temperature: float = 2.0,
    convention: str = conventions.OURS, mask: np.ndarray | None = None, beside_labels: bool = True,
) -> LossAndGradient:  # fmt: skip
    """The soft-target loss with the normalisation of a named code base  ->  (loss, dz_s).

    convention: a name in the table of `minidistil.distill.conventions`, such as "huggingface" or
    "textbrewer"; the table gives their sources. beside_labels: False for torchdistill's value
    without a loss on labels.
    """
    from minidistil.ops.kl_div import selected  # imports Numba, which `import minidistil` avoids

    tau = number("temperature", temperature, 0, above=True)
    one_of("convention", convention, conventions.CONVENTIONS)
    z_s, z_t, mask = _rows_of_pair(student_logits, teacher_logits, mask)
    rows = selected(mask, len(z_s))
    dz_s = np.zeros_like(z_s)
    ops = backend("numpy", z_s.dtype.name)
    loss, dz_s[rows] = conventions.soft_targets(
        z_s[rows], z_t[rows], tau, convention, ops, beside_labels
    )
    return loss, dz_s.reshape(np.shape(student_logits))


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, ignore_index: int = -100,
    class_weights: np.ndarray | None = None, label_smoothing: float = 0.0,
) -> LossAndGradient:  # fmt: skip
    """Mean negative log-likelihood of the labels that are not ignore_index  ->  (loss, dlogits).

    class_weights: (K,) numbers of at least 0; the mean is weighted by those of the labels.
    label_smoothing: the share of a label that is spread over all classes, 0 to below 1.
    Source: PyTorch's CrossEntropyLoss. Raises ValueError without any label, for labels of another
    shape or outside the classes, for invalid weights, and for a smoothing out of range.
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
    """class_weights as an array (K,), or None. Raises ValueError for a wrong shape or value."""
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


def cosine(
    student_hidden: np.ndarray, teacher_hidden: np.ndarray, mask: np.ndarray | None = None
) -> LossAndGradient:
    """Mean of 1 − cos(student, teacher) over the selected rows  ->  (loss, dstudent_hidden).

    Source: PyTorch's CosineEmbeddingLoss with target +1.
    """
    return _pair(OPS.cosine, "target", student_hidden, teacher_hidden, mask, {})


def mse(
    student: np.ndarray, teacher: np.ndarray, mask: np.ndarray | None = None,
    reduction: str = "mean",
) -> LossAndGradient:  # fmt: skip
    """Squared error over the selected rows  ->  (loss, dstudent).

    reduction: "mean" (over rows and channels) as PyTorch's MSELoss, "batchmean" (over rows) as
    Hugging Face's distiller, or "sum".
    """
    options = {"reduction": one_of("reduction", reduction, REDUCTIONS)}
    return _pair(OPS.mse, "target", student, teacher, mask, options)


def _pair(op, teacher_role, student, teacher, mask, options):
    """Loss and gradient of an op with a student's argument, and a teacher's of the given name."""
    x, target, mask = _rows_of_pair(student, teacher, mask)
    loss, cache = op.forward(x, mask=mask, **{teacher_role: target}, **options)
    return float(loss), op.backward(x.dtype.type(1), cache)[0].reshape(np.shape(student))


def _rows_of_pair(student, teacher, mask):
    """Two arrays (…,V), mask (…) or None  ->  both (N,V) in the student's dtype, mask (N,)."""
    student, teacher = real("student", student), real("teacher", teacher)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have one shape: {student.shape} and {teacher.shape}"
        )
    x = _rows("student", student)
    target = _rows("teacher", teacher).astype(x.dtype, copy=False)
    if mask is not None:
        mask = ones_and_zeros("mask", mask, student.shape[:-1]).reshape(-1)
    return x, target, mask


def _rows(name, x):
    """(…,V)  ->  (N,V) in float32 or float64."""
    x = real(name, x)
    return x.reshape(-1, x.shape[-1]).astype(x.dtype if x.dtype == np.float64 else np.float32)
