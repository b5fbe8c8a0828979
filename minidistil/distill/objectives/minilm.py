"""MiniLM: self-attention relations of one layer; widths and head counts may differ.

    loss = Σ over the pairs of mean over sequences, heads and rows of
           KL(softmax(x_t·y_tᵀ/√D_t) ‖ softmax(x_s·y_sᵀ/√D_s))

"qk" is attention itself, "vv" the values' relation: MiniLM v1 uses both, in the last layers.
"qq", "kk" and "vv", with more heads than the models have, are MiniLMv2, where the teacher's layer
may be an earlier one. As in its open implementation, the mean is over sequences of means over rows.
Sources: Wang et al., "MiniLM", 2020, eq. 6, 10 and 11; "MiniLMv2", 2021, eq. 4 and 5.
"""

from dataclasses import dataclass

import numpy as np

from minidistil.distill.objectives.auxiliary import TermGradients, tap
from minidistil.distill.objectives.layer_pairs import pairs_of
from minidistil.model.context import plus


@dataclass(frozen=True)
class RelationLoss:
    """pairs: two letters of q, k, v for each relation; heads: the relations' own, by default the
    models'; layers: as in `layers`, the last by default."""

    pairs: tuple = ("qq", "kk", "vv")  # MiniLMv2's
    weight: float = 1.0
    heads: int | None = None
    layers: str | tuple = "last"
    name = "relations"
    by_token = True
    bidirectional = True

    def __post_init__(self):
        if not self.pairs or any(len(p) != 2 or set(p) - set("qkv") for p in self.pairs):
            raise ValueError(f"pairs must be two letters of q, k, v each, not {self.pairs!r}")

    def shapes(self, student, teacher):
        H = self._heads(student, teacher)
        for role, a in (("student", student), ("teacher", teacher)):
            if a.C % H:
                raise ValueError(
                    f"the {role}'s {a.C} channels do not split into {H} relation heads"
                )
        return {}

    def _heads(self, student, teacher):
        if self.heads is None and student.H != teacher.H:
            raise ValueError(
                f"the student has {student.H} heads, the teacher {teacher.H}; set heads to "
                f"the number of relation heads"
            )
        return self.heads or student.H

    def watched(self, student, teacher):
        return pairs_of(self.layers, student.L, teacher.L)

    def count(self, rows, width):
        return len(rows.mask)

    def forward(self, student, teacher, p, ops):
        """ModelStates of both  ->  loss, cache."""
        H = self._heads(student.architecture, teacher.architecture)
        lengths = np.diff(student.rows.bounds)
        weights = 1 / (H * len(lengths) * lengths)
        total, kept = 0.0, []
        for i, j in self.watched(student.architecture, teacher.architecture):
            for x, y in self.pairs:
                loss, cache = ops.relation.forward(
                    tap(student, i, x), tap(student, i, y),
                    target_q=tap(teacher, j, x), target_k=tap(teacher, j, y),
                    bounds=student.rows.bounds, n_heads=H, weights=weights, measure="kl",
                )  # fmt: skip
                total += ops.place.number(loss)
                kept.append((i, x, y, cache))
        return total, kept

    def backward(self, dy, cache, ops):
        """dy ()  ->  TermGradients."""
        taps = {}
        for i, x, y, kept in reversed(cache):
            inner = taps.setdefault(f"layer.{i - 1}", {})
            for name, d in zip((x, y), ops.relation.backward(dy, kept), strict=True):
                inner[name] = plus(inner.get(name), d, ops)
        return TermGradients({}, taps, {})
