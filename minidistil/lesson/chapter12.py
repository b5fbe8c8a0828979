"""Chapter 12, cross-checking: a cosine loss that counts padding."""

import numpy as np

from minidistil.check import explain
from minidistil.lesson.exercise import exercise, rng


def inputs():
    """Two texts, the first with a hole and with padding."""
    mask = np.array([[1, 0, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    return [(*rng(12).standard_normal((2, 2, 5, 12)), mask)]


def explained(answer, student, teacher, mask):
    return explain("cosine", answer, student, teacher, mask=mask)


@exercise(
    cases=inputs,
    explained=explained,
    remark="The colleague's number is right for the second text, which has no padding.",
    hint="student[mask] has the rows of tokens alone, (N,C).",
)
def repaired(student, teacher, mask):
    a, b = student[mask], teacher[mask]
    cos = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return float(np.mean(1 - cos))


def cosines(student, teacher):
    """The cosine at each token, (B,T)."""
    lengths = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    return (student * teacher).sum(axis=-1) / lengths


@repaired.right
def weighted(student, teacher, mask):
    return ((1 - cosines(student, teacher)) * mask).sum() / mask.sum()


wrong = repaired.wrong
wrong("padding still counts: this is the colleague's number")(
    lambda s, t, mask: np.mean(1 - cosines(s, t))
)
wrong("the sum leaves padding out, the count does not: divide by the number of tokens")(
    lambda s, t, mask: ((1 - cosines(s, t)) * mask).mean()
)
wrong("each text has its own mean here; one mean over all tokens is asked for")(
    lambda s, t, mask: np.mean([repaired(*(x[i : i + 1] for x in (s, t, mask))) for i in (0, 1)])
)
wrong("this is the cosine; the loss is 1 − cos")(lambda s, t, mask: 1 - repaired(s, t, mask))
wrong("this is a sum over the tokens, not their mean")(
    lambda s, t, mask: repaired(s, t, mask) * mask.sum()
)
wrong("the mask is the wrong way round: true is a token")(lambda s, t, mask: repaired(s, t, ~mask))
wrong("zeros in place of padding still count as rows, with cos = 0")(
    lambda s, t, mask: np.mean(1 - cosines(s, t) * mask)
)
