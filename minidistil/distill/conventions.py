"""Soft targets as eight code bases compute them: one divergence, counted in different ways.

With p and t the distributions of student and teacher softened by τ, the mean over the rows of

    KL = Σ_v t·(ln t − ln p)          CE = −Σ_v t·ln p = KL + H,     H = −Σ_v t·ln t

H is the teacher's entropy. The student has no part in it, so both have the same gradient, and a
convention is no more than the op `kl_div` (or `vocabulary`) times a number:

    loss = s·(KL [+ H])               s = 1 or τ²; over V where the classes are averaged too

The same settings thus mean losses up to τ²·V apart: alpha 0.5 of one is not alpha 0.5 of another.
Source: the files named in the table, as coded, whatever their papers print.
"""

import math
from typing import NamedTuple

import numpy as np


class Convention(NamedTuple):
    """How a code base counts."""

    entropy: bool  # CE: the teacher's entropy is left in
    classes: bool  # the mean is over rows and classes, not over rows alone
    squared: bool  # times τ²
    source: str


CONVENTIONS = {
    "huggingface": Convention(False, False, True, "transformers' distillation/distiller.py"),
    "textbrewer": Convention(True, False, False, "TextBrewer's losses.py, kd_ce_loss"),
    "torchdistill": Convention(False, False, True, "torchdistill's losses/mid_level.py, KDLoss"),
    "tinybert": Convention(True, True, False, "TinyBERT's task_distill.py, soft_cross_entropy"),
    "pkd": Convention(False, True, True, "PKD's KD loss, KLDivLoss with reduction 'mean'"),
    "neural-compressor": Convention(True, False, True, "its criterions.py, loss type 'CE'"),
    "neural-compressor-kl": Convention(False, True, True, "its criterions.py, loss type 'KL'"),
    "deit": Convention(False, True, True, "DeiT's losses.py, DistillationLoss, type 'soft'"),
    "sentence-transformers": Convention(False, False, True, "its DistillKLDivLoss, over scores"),
}
OURS = "huggingface"  # what the ops compute: factor 1, no entropy
NO_ROW_TEMPERATURES = (
    "temperature_by compares the rows of a batch, and a vocabulary's logits are there for a few "
    "rows at a time; leave it out"
)


def check_convention(name):
    """Raises ValueError for a name that the table lacks."""
    if name not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, not {name!r}")


def factor(convention, tau, V, beside_labels=True):
    """The loss over what the ops compute, which is τ² times KL's mean over the rows.

    beside_labels: whether the loss stands beside one on labels. torchdistill returns early where
    it does not, before it multiplies by τ².
    """
    check_convention(convention)
    how = CONVENTIONS[convention]
    squared = how.squared and (beside_labels or convention != "torchdistill")
    return (1 if squared else 1 / tau**2) / (V if how.classes else 1)


def entropy(teacher, tau, ops):
    """teacher (N,V)  ->  the mean over its rows of H, a float.

    A uniform student is ln V − H away from the teacher, so the op that has the distance gives H.
    """
    uniform = ops.place.zeros_like(teacher)
    distance, _ = ops.kl_div.forward(uniform, teacher=teacher, tau=tau, scale=False)
    return math.log(teacher.shape[1]) - ops.place.number(distance)


def row_temperatures(rule, logits, teacher, tau):
    """A temperature for each row of logits and teacher (N,V), around tau  ->  (N,).

        flsw:β:γ    τ + β·(mean w − w)    w = (1 − cos(z, t))^γ, large where the two differ
        cwsm:β      the same              w = 1/(max softmax(z) + 0.001), large where z is unsure

    so that a row that is hard for the student is softened less. rule "" or None: tau for all. No
    gradient passes through it. Raises ValueError for another rule. Source: Wen et al., "Preparing
    lessons", 2019, as in TextBrewer's schedulers.py.
    """
    name, *numbers = (rule or "").split(":")
    try:
        beta, gamma = (*map(float, numbers), 1.0)[:2]
        wanted = {"flsw": 2, "cwsm": 1}[name]
    except (KeyError, ValueError):
        wanted = -1
    if wanted != len(numbers):
        raise ValueError(f"a temperature by row is flsw:BETA:GAMMA or cwsm:BETA, not {rule!r}")
    if name == "flsw":
        possible = np.isfinite(logits)  # no answer starts at the padding
        z, t = (np.where(possible, x, 0) for x in (logits, teacher))
        z, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, t))
        w = (1 - (z * t).sum(axis=1)) ** gamma
    else:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        w = 1 / ((p / p.sum(axis=1, keepdims=True)).max(axis=1) + 1e-3)
    found = tau + beta * (w.mean() - w)
    if not (found > 0).all():
        raise ValueError(
            f"{rule} around {tau:g} makes a temperature {found.min():.3g} or below, which must be "
            f"above 0; choose a smaller beta"
        )
    return found


class SoftTargets:
    """One convention at work on one batch of V classes."""

    def __init__(self, convention, tau, V, ops, beside_labels=True):
        self.tau, self.ops = tau, ops
        self.factor = factor(convention, tau, V, beside_labels)
        self._entropy = CONVENTIONS[convention].entropy
        self._sum, self._rows = 0.0, 0

    def observe(self, z_t: np.ndarray) -> np.ndarray:
        """The teacher's logits, unchanged; their entropy is added up if the convention is CE."""
        if self._entropy:
            self._sum += entropy(z_t, self.tau, self.ops) * len(z_t)
            self._rows += len(z_t)
        return z_t

    def convert_parts(self, parts: dict) -> dict:
        """{part: loss} as ops give them  ->  {part: float}, of which ce is the convention's."""
        found = {name: self.ops.place.number(part) for name, part in parts.items()}
        return found | {"ce": self.convert(found["ce"])} if "ce" in found else found

    def convert(self, kl: float) -> float:
        """The op's τ²·KL of the observed rows  ->  the value that the convention reports."""
        found = self.factor * kl
        if self._entropy:
            found += self.factor * self.tau**2 * self._sum / self._rows
        return found


def soft_targets(z_s, z_t, tau, convention, ops, beside_labels=True, weight=1):
    """z_s and z_t (N,V)  ->  loss (a float), dz_s (N,V) of weight times it."""
    soft = SoftTargets(convention, tau, z_s.shape[1], ops, beside_labels)
    kl, cache = ops.kl_div.forward(z_s, teacher=soft.observe(z_t), tau=tau)
    (dz_s,) = ops.kl_div.backward(z_s.dtype.type(weight * soft.factor), cache)
    return soft.convert(ops.place.number(kl)), dz_s
