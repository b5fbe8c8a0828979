"""What a student can learn of its teacher besides the logits: one file for each objective.

A term is a small frozen dataclass with a weight. It looks at both models' hidden states and, where
it names their layers, at queries, keys and values; it gives a loss and, read upwards, the gradients
that this sends into the student. What it learns itself, such as a projection onto the teacher's
width, lies in `Projected` beside the student, and is not saved with it.

    shapes(student, teacher)            {name: shape} of what it learns, from both Architectures;
                                        raises ValueError where it cannot compare the two
    watched(student, teacher)           pairs of layers, from 1, whose q, k and v it looks at
    forward(mine, theirs, p, ops)       loss (), cache; mine, theirs: ModelStates; p: what it learns
    backward(dy, cache, ops)            TermGradients: gradients into what it looked at, and of p
    count(rows, width)                  what its mean is over; width: the batch's columns, of a
                                        micro-batch those of the whole

    config = DistillConfig(alpha_cos=0, terms=(HiddenMSE(), AttentionLoss("scores")))
    student = Projected(student, teacher, config.terms)
"""

from minidistil.distill.objectives.attention_maps import AttentionLoss
from minidistil.distill.objectives.auxiliary import (
    ModelStates,
    TermGradients,
    auxiliary_losses,
    tapped,
)
from minidistil.distill.objectives.hidden_states import HiddenMSE
from minidistil.distill.objectives.layer_pairs import pairs_of
from minidistil.distill.objectives.minilm import RelationLoss
from minidistil.distill.objectives.mobilebert import FeatureMapTransfer
from minidistil.distill.objectives.patient import PatientMSE
from minidistil.distill.objectives.projections import Projected

TERMS = {
    "hidden": HiddenMSE,
    "attention": AttentionLoss,
    "relations": RelationLoss,
    "patient": PatientMSE,
    "feature-maps": FeatureMapTransfer,
}
__all__ = [
    "TERMS",
    "AttentionLoss",
    "FeatureMapTransfer",
    "HiddenMSE",
    "ModelStates",
    "PatientMSE",
    "Projected",
    "RelationLoss",
    "TermGradients",
    "auxiliary_losses",
    "pairs_of",
    "tapped",
]  # fmt: skip
