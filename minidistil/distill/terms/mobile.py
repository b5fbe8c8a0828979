"""Feature maps as MobileBERT transfers them: direction first, then mean and variance.

With μ and v the mean and the variance of a token's vector over its channels, and h̃ = (h − μ)/√v,

    loss = Σ_pairs [ mean (h̃_s − h̃_t)² + β·mean (μ_s − μ_t)² + γ·mean (v_s − v_t)² ]

The originals' weights beside the first are 5000 and 5 over 100: β = 50, γ = 0.05.
Source: Sun et al., "MobileBERT", 2020, §3.4; google-research's distill_util.
"""

from dataclasses import dataclass

import numpy as np

from minidistil.distill.terms.layers import pairs_of
from minidistil.distill.terms.seen import Pull

EPS = 1e-12


@dataclass(frozen=True)
class FeatureMapTransfer:
    """layers: a name of `layers.MAPS` or pairs; mean, variance: β and γ."""

    weight: float = 1.0
    layers: str | tuple = "first"
    mean: float = 50.0
    variance: float = 0.05
    name = "feature-maps"

    def pairs(self, student, teacher):
        return pairs_of(self.layers, student.L, teacher.L)

    def shapes(self, student, teacher):
        if student.C != teacher.C:
            raise ValueError(
                f"feature maps are compared as they are: {student.C} channels against {teacher.C}; "
                f"use HiddenMSE, which learns a projection"
            )
        self.pairs(student, teacher)
        return {}

    def watched(self, student, teacher):
        return ()

    def forward(self, mine, theirs, p, ops):
        """What both show  ->  loss, cache."""
        total, kept = 0.0, []
        one = ops.place.send(np.ones(mine.architecture.C, np.float32))
        zero = ops.place.zeros_like(one)
        weights = ((np.array([True, False]), self.mean), (np.array([False, True]), self.variance))
        for i, j in self.pairs(mine.architecture, theirs.architecture):
            h, t = mine.hidden[i], theirs.hidden[j]
            x, norm = ops.layernorm.forward(h, one, zero, eps=EPS)
            target, _ = ops.layernorm.forward(t, one, zero, eps=EPS)
            loss, error = ops.mse.forward(x, target=target)
            total += ops.place.number(loss)
            m, moments = ops.moments.forward(h)
            target, _ = ops.moments.forward(t)
            gaps = []
            for mask, weight in weights:
                loss, gap = ops.mse.forward(m, target=target, mask=mask)
                total += weight * ops.place.number(loss)
                gaps.append((weight, gap))
            kept.append((i, norm, error, moments, gaps))
        return total, kept

    def backward(self, dy, cache, ops):
        """dy ()  ->  Pull."""
        hidden = {}
        for i, norm, error, moments, gaps in cache:
            dm, dv = (ops.mse.backward(type(dy)(weight * dy), gap)[0] for weight, gap in gaps)
            (dh,) = ops.moments.backward(ops.add.forward(dm, dv)[0], moments)
            (dx,) = ops.mse.backward(dy, error)
            ops.place.accumulate(dh, ops.layernorm.backward(dx, norm)[0])
            hidden[i] = dh
        return Pull(hidden, {}, {})
