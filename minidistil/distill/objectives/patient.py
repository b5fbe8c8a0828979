"""Patient distillation: the [CLS] vectors of several layers match the teacher's.

    loss = Σ_pairs mean over texts and channels of (x_s − x_t)²           x = h[first token]

with x/‖x‖ for x where `normalised`. The squared distance of unit vectors is 2(1 − cos), so their
loss is 2/C times the mean of 1 − cos, the op `cosine`. The original's mean is over the pairs, too:
`mean=True`.
Source: Sun et al., "Patient knowledge distillation for BERT model compression", 2019, eq. 7; its
code's mse_loss.
"""

from dataclasses import dataclass

from minidistil.distill.objectives.auxiliary import TermGradients
from minidistil.distill.objectives.layer_pairs import pairs_of


@dataclass(frozen=True)
class PatientMSE:
    """layers: "skip" (PKD-skip), another name of `layers.MAPS`, or pairs."""

    weight: float = 1.0
    layers: str | tuple = "skip"
    normalised: bool = True
    mean: bool = True
    name = "patient"
    by_token = False  # the first token's vector only
    bidirectional = False

    def pairs(self, student, teacher):
        return pairs_of(self.layers, student.L, teacher.L)

    def shapes(self, student, teacher):
        if student.C != teacher.C:
            raise ValueError(
                f"[CLS] vectors are compared as they are: {student.C} channels against "
                f"{teacher.C}; use HiddenMSE, which learns a projection"
            )
        if not self.pairs(student, teacher):
            raise ValueError("a student of one layer has none but its last; set layers to 'last'")
        return {}

    def watched(self, student, teacher):
        return ()

    def count(self, rows, width):
        return len(rows.mask)

    def forward(self, student, teacher, p, ops):
        """ModelStates of both  ->  loss, cache."""
        first, C, total, kept = student.rows.bounds[:-1], student.architecture.C, 0.0, []
        their_first = teacher.rows.bounds[:-1]
        pairs = self.pairs(student.architecture, teacher.architecture)
        op, factor = (ops.cosine, 2 / C) if self.normalised else (ops.mse, 1.0)
        factor /= len(pairs) if self.mean else 1
        for i, j in pairs:
            x, gather = ops.embedding.forward(student.hidden[i], ids=first)
            target, _ = ops.embedding.forward(teacher.hidden[j], ids=their_first)
            loss, cache = op.forward(x, target=target)
            total += factor * ops.place.number(loss)
            kept.append((i, gather, op, factor, cache))
        return total, kept

    def backward(self, dy, cache, ops):
        """dy ()  ->  TermGradients."""
        hidden = {}
        for i, gather, op, factor, kept in cache:
            (dx,) = op.backward(type(dy)(factor * dy), kept)
            (hidden[i],) = ops.embedding.backward(dx, gather)
        return TermGradients(hidden, {}, {})
