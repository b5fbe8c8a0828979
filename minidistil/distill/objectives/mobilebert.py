"""MobileBERT's feature map transfer: normalised hidden states, their means and their variances.

With μ and v the mean and the variance of a token's vector over its channels, and h̃ = (h − μ)/√v,

    loss = mean over the pairs of mean (h̃_s − h̃_t)² + β·mean (μ_s − μ_t)² + γ·mean |v_s − v_t|

The original's weights are 100, 5000 and 5: β = 50, γ = 0.05. Its code trains one layer at a time,
and compares a layer's mean and variance with those of all the teacher's layers (`teacher_hiddens`
for `teacher_hidden`); here every layer is compared with its own, in every step.
Source: Sun et al., "MobileBERT", 2020, §3.4; google-research's mobilebert/run_pretraining.py.
"""

from dataclasses import dataclass

import numpy as np

from minidistil.distill.objectives.auxiliary import TermGradients
from minidistil.distill.objectives.layer_pairs import pairs_of

EPS = 1e-12
MEANS, VARIANCES = np.array([True, False]), np.array([False, True])  # rows of `moments`


@dataclass(frozen=True)
class FeatureMapTransfer:
    """layers: a name of `layers.MAPS` or pairs; mean, variance: β and γ."""

    weight: float = 1.0
    layers: str | tuple = "first"
    mean: float = 50.0
    variance: float = 0.05
    name = "feature-maps"
    by_token = True
    bidirectional = False

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

    def count(self, rows, width):
        return len(rows.column)

    def forward(self, student, teacher, p, ops):
        """ModelStates of both  ->  loss, cache."""
        total, kept, number = 0.0, [], ops.place.number
        one = ops.place.send(np.ones(student.architecture.C, np.float32))
        zero = ops.place.zeros_like(one)
        pairs = self.pairs(student.architecture, teacher.architecture)
        for i, j in pairs:
            h, t = student.hidden[i], teacher.hidden[j]
            x, norm = ops.layernorm.forward(h, one, zero, eps=EPS)
            target, _ = ops.layernorm.forward(t, one, zero, eps=EPS)
            direction, error = ops.mse.forward(x, target=target)
            m, moments = ops.moments.forward(h)
            target, _ = ops.moments.forward(t)
            shift, gap = ops.mse.forward(m, target=target, mask=MEANS)
            spread, excess = ops.mae.forward(m, target=target, mask=VARIANCES)
            total += number(direction) + self.mean * number(shift) + self.variance * number(spread)
            kept.append((i, norm, error, moments, gap, excess))
        return total / len(pairs), kept

    def backward(self, dy, cache, ops):
        """dy ()  ->  TermGradients."""
        hidden, dy = {}, dy / type(dy)(len(cache))
        for i, norm, error, moments, gap, excess in cache:
            (dspread,) = ops.mae.backward(type(dy)(self.variance * dy), excess)
            (dshift,) = ops.mse.backward(type(dy)(self.mean * dy), gap)
            (dh,) = ops.moments.backward(ops.add.forward(dshift, dspread)[0], moments)
            (dx,) = ops.mse.backward(dy, error)
            ops.place.accumulate(dh, ops.layernorm.backward(dx, norm)[0])
            hidden[i] = dh
        return TermGradients(hidden, {}, {})
