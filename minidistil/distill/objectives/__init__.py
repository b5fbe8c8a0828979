"""Auxiliary losses (terms) on hidden states and attention, one file each; and the steps of other
tasks than language modelling.

A term is a small frozen dataclass with a weight. It reads both models' hidden states and, in the
layers that it names, queries, keys and values. It computes a loss and the gradients with respect to
what it read of the student. Its own parameters, such as a projection onto the teacher's width, are
in `Projected` beside the student's, and are not saved with the student.

    shapes(student, teacher)            {name: shape} of its parameters, from both Architectures;
                                        raises ValueError where it cannot compare the two
    watched(student, teacher)           pairs of layers, from 1, whose q, k and v it reads
    forward(student, teacher, p, ops)   ModelStates of both, its parameters p  ->  loss (), cache
    backward(dy, cache, ops)            TermGradients: of what it read of the student, and of p
    count(rows, width)                  what its mean is over; width: the batch's columns, of a
                                        micro-batch those of the whole
    by_token                            whether it compares token by token
    bidirectional                       whether it compares attention in both directions

    config = DistillConfig(alpha_cos=0, terms=(HiddenMSE(), AttentionLoss("scores")))
    student = Projected(student, teacher, config.terms)
"""

from minidistil.distill.objectives.attention_maps import AttentionLoss
from minidistil.distill.objectives.auxiliary import (
    ModelStates,
    TermGradients,
    auxiliary_losses,
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
]  # fmt: skip
