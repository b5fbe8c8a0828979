"""Mistakes in further objectives: self-attention relations, moments, MAE, binary cross-entropy."""

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake
from minidistil.distilbert import log_softmax

RELATION = "d(q·kᵀ/√D, q′·k′ᵀ/√D′) for each head, mean over heads and real rows or entries"


@mistake(
    "relation-scale-missing", "relation", values=("both sides", "the student's", "the teacher's"),
    says="The relations' scores are not divided by √D ({}).",
    yours="s = q·kᵀ", right=RELATION,
    fix="divide each side by the root of its own head's dimension",
)  # fmt: skip
def relation_scale_missing(q, k, teacher_q, teacher_k, *, n_heads, value, **how):
    if value != "the teacher's":
        q = q * np.sqrt(q.shape[-1] / n_heads)
    if value != "the student's":
        teacher_q = teacher_q * np.sqrt(teacher_q.shape[-1] / n_heads)
    return reference_ops.relation(q, k, teacher_q, teacher_k, n_heads=n_heads, **how)


@mistake(
    "relation-students-scale", "relation",
    says="The teacher's scores are divided by the root of the student's dimension.",
    yours="u = q′·k′ᵀ/√D", right=RELATION,
    fix="divide each side by the root of its own head's dimension",
)  # fmt: skip
def relation_students_scale(q, k, teacher_q, teacher_k, **how):
    wider = np.sqrt(teacher_q.shape[-1] / q.shape[-1])
    return reference_ops.relation(q, k, wider * teacher_q, teacher_k, **how)


@mistake(
    "relation-heads-not-split", "relation",
    says="There is one relation over all C channels instead of one per head.",
    yours="d(Q·Kᵀ/√C, Q′·K′ᵀ/√C′)", right=RELATION,
    fix="split q and k into heads before the product, (B,H,T,D)",
)  # fmt: skip
def relation_heads_not_split(q, k, teacher_q, teacher_k, *, n_heads, weights=None, **how):
    weights = None if weights is None else n_heads * np.asarray(weights)  # a mean over one head
    return reference_ops.relation(q, k, teacher_q, teacher_k, n_heads=1, weights=weights, **how)


@mistake(
    "relation-arguments-swapped", "relation",
    says="The divergence of the relations has student and teacher swapped.",
    yours="KL(student ‖ teacher), of ce −Σ a·ln b", right="KL(teacher ‖ student), of ce −Σ b·ln a",
    fix="F.kl_div(log of the student's weights, the teacher's weights): the logs come first",
)  # fmt: skip
def relation_swapped(q, k, teacher_q, teacher_k, **how):
    return reference_ops.relation(teacher_q, teacher_k, q, k, **how)


OTHER = {"kl": "ce", "ce": "kl", "scores": "probs", "probs": "scores"}
WITH = {
    "cross-entropy instead of KL divergence, larger by the teacher's entropy": "kl",
    "KL divergence instead of cross-entropy, smaller by the teacher's entropy": "ce",
    "probabilities instead of scores": "scores",
    "scores instead of probabilities": "probs",
}


@mistake(
    "relation-measure", "relation", values=tuple(WITH),
    says="The relations are compared by another measure: {}.",
    yours="{}", right="kl: Σ b·(ln b − ln a), ce: −Σ b·ln a, scores: Σ (s − u)², probs: Σ (a − b)²",
    fix="use the measure of the recipe",
)  # fmt: skip
def relation_measure(q, k, teacher_q, teacher_k, *, measure="kl", value, **how):
    other = OTHER[measure] if WITH[value] == measure else measure  # else it is no mistake
    return reference_ops.relation(q, k, teacher_q, teacher_k, measure=other, **how)


@mistake(
    "relation-over-padding", "relation",
    says="The relations include the padding, as rows and as keys.",
    yours="softmax and mean run over all T columns", right=RELATION,
    fix="mask the keys before softmax, and exclude rows of padding from the mean",
)  # fmt: skip
def relation_over_padding(q, k, teacher_q, teacher_k, *, mask=None, weights=None, **how):
    return reference_ops.relation(q, k, teacher_q, teacher_k, **how)


COUNTS = {  # sequences B, columns T, heads H and the lengths t  ->  what the sum is divided by
    "not divided": lambda B, T, H, t: 1,
    "divided by the B sequences": lambda B, T, H, t: B,
    "divided by sequences and heads": lambda B, T, H, t: B * H,
    "divided by the real rows, not by the heads": lambda B, T, H, t: t.sum(),
    "divided by all B·T columns and the heads": lambda B, T, H, t: B * T * H,
    "divided by the real rows and the heads": lambda B, T, H, t: H * t.sum(),
    "divided by the real entries and the heads": lambda B, T, H, t: H * (t**2).sum(),
    "divided by all B·T² entries and the heads": lambda B, T, H, t: B * T * T * H,
    "each sequence by its own rows": lambda B, T, H, t: B * H * t,
    "each sequence by its own entries": lambda B, T, H, t: B * H * t**2,
}


@mistake(
    "relation-count", "relation", values=tuple(COUNTS),
    says="The sum over relations is divided by the wrong count ({}).",
    yours="Σ over sequences, heads and rows of d, {}",
    right="kl and ce by heads and real rows, scores and probs by heads and real entries",
    fix="sum over the real tokens of every head, then divide by the number of summands",
)  # fmt: skip
def relation_count(q, k, teacher_q, teacher_k, *, n_heads, mask=None, weights=None, value, **how):
    B, T = q.shape[:2]
    lengths = np.full(B, T) if mask is None else np.asarray(mask, bool).sum(axis=1)
    counted = np.broadcast_to(1 / COUNTS[value](B, T, n_heads, lengths), B)
    return reference_ops.relation(
        q, k, teacher_q, teacher_k, n_heads=n_heads, mask=mask, weights=counted, **how
    )


MOMENTS = "μ = Σ x/C,  v = Σ (x − μ)²/C"
SPREADS = {
    "the variance is divided by C − 1": lambda d, x: (d * d).sum(-1) / (x.shape[-1] - 1),
    "standard deviation instead of variance": lambda d, x: np.sqrt((d * d).mean(-1)),
    "standard deviation, by C − 1, instead of variance": lambda d, x: np.sqrt(
        (d * d).sum(-1) / (x.shape[-1] - 1)
    ),
    "the mean is not subtracted before squaring": lambda d, x: (x * x).mean(-1),
    "the squares are summed": lambda d, x: (d * d).sum(-1),
}


@mistake(
    "moments-variance", "moments", values=tuple(SPREADS),
    says="The second moment is not the variance over C channels: {}.",
    yours="{}", right=MOMENTS,
    fix="x.var(-1, unbiased=False); torch's var and std divide by C − 1 by default",
)  # fmt: skip
def moments_variance(x, *, value):
    mean = x.mean(axis=-1)
    return np.stack([mean, SPREADS[value](x - mean[..., None], x)])


@mistake(
    "moments-swapped", "moments",
    says="The moments are in the wrong order: the variance comes first.",
    yours="(v, μ)", right="(μ, v): " + MOMENTS,
    fix="torch.var_mean returns the variance first",
)  # fmt: skip
def moments_swapped(x):
    return reference_ops.moments(x)[::-1]


MAE = "Σ |s − t|/(N·C) over the N real tokens and C channels"


ERRORS = {
    "divided by the rows alone": lambda rows, x: rows,
    "divided by the channels alone": lambda rows, x: x.shape[-1],
    "divided by the B sequences": lambda rows, x: len(x),
    "not divided": lambda rows, x: 1,
    "divided by all columns and the channels": lambda rows, x: x.size,
}


@mistake(
    "mae-count", "mae", values=tuple(ERRORS),
    says="The absolute error is not a mean over rows times channels ({}).",
    yours="Σ |s − t|, {}", right=MAE,
    fix='select the real tokens, (N,C), then F.l1_loss with its default reduction="mean"',
)  # fmt: skip
def mae_count(student, teacher, *, mask=None, value):
    rows = student[..., 0].size if mask is None else np.asarray(mask, bool).sum()
    total = reference_ops.mae(student, teacher, mask=mask) * rows * student.shape[-1]
    return total / ERRORS[value](rows, student)


@mistake(
    "mae-over-padding", "mae",
    says="The absolute error includes the padding.",
    yours="the mean runs over all B·T columns", right=MAE,
    fix="select with attention_mask first: hidden[mask == 1]",
)  # fmt: skip
def mae_over_padding(student, teacher, *, mask=None):
    return reference_ops.mae(student, teacher)


@mistake(
    "mae-squared", "mae",
    values=("as it is", "under a root", "where |s − t| < 1, as smooth_l1_loss"),
    says="The error is squared, not absolute ({}).",
    yours="Σ (s − t)²/(N·C), {}", right=MAE,
    fix="F.l1_loss",
)  # fmt: skip
def mae_squared(student, teacher, *, mask=None, value):
    off = np.abs(student - teacher)
    off = off if mask is None else off[np.asarray(mask, bool)]
    if value.startswith("where"):
        return np.where(off < 1, off * off / 2, off - 0.5).mean()
    squared = (off * off).mean()
    return squared if value == "as it is" else np.sqrt(squared)


BINARY = "mean over texts and labels of −label·ln σ(z) − (1 − label)·ln σ(−z)"
SUMS = {
    "summed over the labels, mean over texts": lambda z: z.shape[-1],
    "summed over texts, mean over the labels": lambda z: len(z),
    "summed over texts and labels": lambda z: z.size,
}


@mistake(
    "bce-sum", "binary_cross_entropy", values=tuple(SUMS),
    says="The binary cross-entropy is not a mean over texts and labels: {}.",
    yours="Σ −label·ln σ(z) − (1 − label)·ln σ(−z), {}", right=BINARY,
    fix='F.binary_cross_entropy_with_logits with its default reduction="mean"',
)  # fmt: skip
def bce_sum(logits, labels, *, value):
    return reference_ops.binary_cross_entropy(logits, labels) * SUMS[value](logits)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@mistake(
    "bce-sigmoid-twice", "binary_cross_entropy",
    says="The sigmoid is taken twice.",
    yours="binary cross-entropy with logits, of σ(z)", right=BINARY,
    fix="F.binary_cross_entropy_with_logits takes logits",
)  # fmt: skip
def bce_sigmoid_twice(logits, labels):
    return reference_ops.binary_cross_entropy(_sigmoid(logits), labels)


def _of_softmax(z, label):
    p = reference_ops.softmax(z)
    return -(label * np.log(p) + (1 - label) * np.log1p(-p)).mean()


FORMS = {
    "softmax over the labels": _of_softmax,
    "cross-entropy of one softmax, mean over texts": lambda z, label: (
        -(label * log_softmax(z)).sum(-1).mean()
    ),
    "labels of 0 are ignored": lambda z, label: (label * np.log1p(np.exp(-z))).mean(),
    "the labels are inverted": lambda z, label: reference_ops.binary_cross_entropy(z, 1 - label),
}


@mistake(
    "bce-form", "binary_cross_entropy", values=tuple(FORMS),
    says="The K labels are not treated as independent: {}.",
    yours="{}", right=BINARY,
    fix="F.binary_cross_entropy_with_logits, on labels (N,K) of 0 and 1",
)  # fmt: skip
def bce_form(logits, labels, *, value):
    return FORMS[value](logits, labels)
