"""Attention maps: the student's attention scores or weights match the teacher's.

    loss = Σ_pairs mean of d(q_s·k_sᵀ/√D, q_t·k_tᵀ/√D)

d is a measure of the op `relation`: squared error of the scores (TinyBERT) or of the weights, cross
entropy or KL of the weights (MiniLM v1). The mean is over a head's entries for the squared errors
and over its rows for the divergences, of all real tokens together. TinyBERT's code divides by
B·H·T², padding included, as `padded=True` does. It also sets scores below -100 to 0 in both models,
which real tokens do not have. MobileBERT's loss is a mean over the pairs, too: `mean=True`.
Sources: Jiao et al., "TinyBERT", 2020, eq. 7; Wang et al., "MiniLM", 2020, eq. 6; Sun et al.,
"MobileBERT", 2020, §3.4, whose code computes ce and calls it KL.
"""

from dataclasses import dataclass

import numpy as np

from minidistil.distill.objectives.auxiliary import TermGradients, tap
from minidistil.distill.objectives.layer_pairs import pairs_of

MEASURES = ("scores", "probs", "ce", "kl")  # of the op `relation`


@dataclass(frozen=True)
class AttentionLoss:
    """measure: scores, probs, ce or kl; layers: a name of `layers.MAPS` or pairs."""

    measure: str = "scores"
    weight: float = 1.0
    layers: str | tuple = "uniform"
    padded: bool = False
    mean: bool = False
    name = "attention"
    by_token = True
    bidirectional = True

    def __post_init__(self):
        if self.measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, not {self.measure!r}")

    def shapes(self, student, teacher):
        if student.H != teacher.H:
            raise ValueError(
                f"attentions are compared head by head: {student.H} heads against {teacher.H}; "
                f"make them equal, or use RelationLoss, whose heads are its own"
            )
        return {}

    def watched(self, student, teacher):
        return pairs_of(self.layers, student.L, teacher.L)

    def forward(self, student, teacher, p, ops):
        """ModelStates of both  ->  loss, cache."""
        H, total, kept = student.architecture.H, 0.0, []
        pairs = self.watched(student.architecture, teacher.architecture)
        weights = self._weights(student.rows, H) / (len(pairs) if self.mean else 1)
        for i, j in pairs:
            loss, cache = ops.relation.forward(
                tap(student, i, "q"), tap(student, i, "k"),
                target_q=tap(teacher, j, "q"), target_k=tap(teacher, j, "k"),
                bounds=student.rows.bounds, n_heads=H, weights=weights, measure=self.measure,
            )  # fmt: skip
            total += ops.place.number(loss)
            kept.append((i, cache))
        return total, kept

    def _weights(self, rows, H):
        B, T = rows.mask.shape
        return np.full(B, 1 / (H * self.count(rows, T)))

    def count(self, rows, width):
        lengths, B = np.diff(rows.bounds), len(rows.mask)
        by_row = self.measure in ("ce", "kl")
        if self.padded:
            return B * width if by_row else B * width**2
        return int(lengths.sum() if by_row else (lengths**2).sum())

    def backward(self, dy, cache, ops):
        """dy ()  ->  TermGradients."""
        taps = {}
        for i, kept in cache:
            dq, dk = ops.relation.backward(dy, kept)
            taps[f"layer.{i - 1}"] = {"q": dq, "k": dk}
        return TermGradients({}, taps, {})
