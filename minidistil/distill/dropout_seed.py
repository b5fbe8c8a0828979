"""DropoutSeed: what the dropout masks of one batch depend on."""

from typing import NamedTuple


class DropoutSeed(NamedTuple):
    """Seed, training step, and the number of the batch's first sequence within its step, which is
    above 0 in a later micro-batch. Without `train` there is no dropout."""

    train: bool = False
    seed: int = 0
    step: int = 0
    first_sequence: int = 0


EVALUATION = DropoutSeed()
