"""The soft-target loss as eight code bases compute it: one divergence, normalised differently.

With p_s and p_t the distributions of student and teacher at temperature τ, the mean over the rows
of

    KL = Σ_v p_t·(ln p_t − ln p_s)     CE = −Σ_v p_t·ln p_s = KL + H,     H = −Σ_v p_t·ln p_t

H is the teacher's entropy. It does not depend on the student, so KL and CE have the same gradient,
and a convention is the op `kl_div` (or `vocabulary`) times a number:

    loss = s·(KL [+ H])                s = 1 or τ²; divided by V for a mean over the classes, too

With the same settings, losses of two conventions differ by a factor of up to τ²·V: alpha 0.5 of one
is not alpha 0.5 of another.
Source: the files named in the table, as coded; some differ from their papers.
"""

import math
from typing import NamedTuple

import numpy as np


class Convention(NamedTuple):
    """How a code base normalises the loss."""

    entropy: bool  # CE: with the teacher's entropy
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
    "temperature_by compares the rows of a batch, and logits over a vocabulary are computed for a "
    "few rows at a time; leave it out"
)


def check_convention(name: str) -> None:
    """Raises ValueError for a name that is not in the table."""
    if name not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, not {name!r}")


def factor(convention: str, tau: float, V: int, beside_labels: bool = True) -> float:
    """The convention's loss, without H, divided by the ops' value: τ² times the mean KL.

    beside_labels: whether labels have a loss as well. Without one torchdistill returns early,
    before it multiplies by τ².
    """
    check_convention(convention)
    how = CONVENTIONS[convention]
    squared = how.squared and (beside_labels or convention != "torchdistill")
    return (1 if squared else 1 / tau**2) / (V if how.classes else 1)


def entropy(z_t: np.ndarray, tau: float, ops) -> float:
    """z_t (N,V)  ->  the mean of H over its rows.

    KL of the teacher from a uniform student is ln V − H, so `kl_div` yields H.
    """
    uniform = ops.place.zeros_like(z_t)
    kl, _ = ops.kl_div.forward(uniform, teacher=z_t, tau=tau, scale=False)
    return math.log(z_t.shape[1]) - ops.place.number(kl)


def row_temperatures(rule: str, z_s: np.ndarray, z_t: np.ndarray, tau: float) -> np.ndarray:
    """Logits (N,V) of student and teacher  ->  a temperature (N,) for each row, around tau.

        flsw:β:γ    τ + β·(mean w − w)    w = (1 − cos(z_s, z_t))^γ, large where the two differ
        cwsm:β      the same              w = 1/(max softmax(z_s) + 0.001), large where the
                                          student is uncertain

    so a row that is hard for the student has a lower temperature. No gradient passes through it.
    Raises ValueError for another rule. Source: Wen et al., "Preparing lessons", 2019, as in
    TextBrewer's schedulers.py.
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
        possible = np.isfinite(z_s)  # padding of a span's question has −inf
        s, t = (np.where(possible, z, 0) for z in (z_s, z_t))
        s, t = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (s, t))
        w = (1 - (s * t).sum(axis=1)) ** gamma
    else:
        p = np.exp(z_s - z_s.max(axis=1, keepdims=True))
        w = 1 / ((p / p.sum(axis=1, keepdims=True)).max(axis=1) + 1e-3)
    found = tau + beta * (w.mean() - w)
    if not (found > 0).all():
        raise ValueError(
            f"{rule} around {tau:g} makes a temperature {found.min():.3g} or below, which must be "
            f"above 0; choose a smaller beta"
        )
    return found


class SoftTargets:
    """One convention on one batch of V classes; collects the teacher's entropy where it needs it.

    `tau` and `factor` are what the ops take; `convert` turns their value into the convention's.
    """

    def __init__(self, convention: str, tau: float, V: int, ops, beside_labels: bool = True):
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
