"""Hidden states: the student's match the teacher's, through a learned projection.

    loss = Σ_pairs mean over tokens and channels of (h_s·Wᵀ + b − h_t)²

W is learned: one for all pairs, one for each pair, or none where both have the same width. With the
pair (0,0), the embeddings' outputs, this includes TinyBERT's embedding loss. The mean is over real
tokens; the original's includes the padding, and is the same where there is none.
Source: Jiao et al., "TinyBERT", 2020, eq. 8 and 9; its code has one shared W with a bias.
"""

from dataclasses import dataclass

from minidistil.distill.objectives.auxiliary import TermGradients
from minidistil.distill.objectives.layer_pairs import pairs_of

PROJECTIONS = ("shared", "each", "none")


@dataclass(frozen=True)
class HiddenMSE:
    """layers: a name of `layers.MAPS` or pairs; embeddings: with the pair (0,0) before a name's."""

    weight: float = 1.0
    layers: str | tuple = "uniform"
    projection: str = "shared"
    embeddings: bool = True
    name = "hidden"
    by_token = True
    bidirectional = False

    def pairs(self, student, teacher):
        return pairs_of(self.layers, student.L, teacher.L, self.embeddings)

    def shapes(self, student, teacher):
        """{name: shape} of the projections."""
        if self.projection not in PROJECTIONS:
            raise ValueError(
                f"projection must be one of {', '.join(PROJECTIONS)}, not {self.projection!r}"
            )
        pairs = self.pairs(student, teacher)
        if self.projection == "none":
            if student.C != teacher.C:
                raise ValueError(
                    f"{student.C} channels are not the teacher's {teacher.C}: set projection to "
                    f"'shared' or 'each'"
                )
            return {}
        names = ["project"] if self.projection == "shared" else [_own(i) for i, _ in pairs]
        weight, bias = (teacher.C, student.C), (teacher.C,)
        return {f"{n}.weight": weight for n in names} | {f"{n}.bias": bias for n in names}

    def watched(self, student, teacher):
        return ()

    def count(self, rows, width):
        return len(rows.column)

    def forward(self, student, teacher, p, ops):
        """ModelStates of both, learned parameters  ->  loss, cache."""
        total, kept = 0.0, []
        for i, j in self.pairs(student.architecture, teacher.architecture):
            h, product, name = student.hidden[i], None, None
            if self.projection != "none":
                name = "project" if self.projection == "shared" else _own(i)
                h, product = ops.linear.forward(h, p[f"{name}.weight"], p[f"{name}.bias"])
            loss, error = ops.mse.forward(h, target=teacher.hidden[j])
            total += ops.place.number(loss)
            kept.append((i, name, product, error))
        return total, kept

    def backward(self, dy, cache, ops):
        """dy ()  ->  TermGradients."""
        hidden, grads = {}, {}
        for i, name, product, error in reversed(cache):
            (dh,) = ops.mse.backward(dy, error)
            if product is not None:
                dh, dweight, dbias = ops.linear.backward(dh, product)
                for n, g in ((f"{name}.weight", dweight), (f"{name}.bias", dbias)):
                    if n in grads:
                        ops.place.accumulate(grads[n], g)  # one projection for all pairs
                    else:
                        grads[n] = g
            if i in hidden:
                ops.place.accumulate(hidden[i], dh)
            else:
                hidden[i] = dh
        return TermGradients(hidden, {}, grads)


def _own(i):
    return f"project.{i}"
