"""Distillation across tokenizers: the same texts in the tokens of both models, in each batch."""

from collections.abc import Mapping, Sequence

import numpy as np

from minidistil.data.in_memory import InMemory

THEIRS = "teacher_"  # the prefix of the teacher's input arrays
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class ReadTwice:
    """The student's data, whose batches hold the teacher's inputs as well.

    mine, theirs: examples in memory, the same in the same order, in the student's and the teacher's
    tokens. The student's lengths determine the batches.
    """

    def __init__(self, mine: InMemory, theirs: InMemory):
        if len(mine.sequences) != len(theirs.sequences):
            raise ValueError(
                f"student and teacher must read the same texts, not {len(mine.sequences)} and "
                f"{len(theirs.sequences)}"
            )
        self.mine, self.theirs, self.seed = mine, theirs, mine.seed
        self.labelled = mine.labelled

    def batches(self, epoch: int) -> list[np.ndarray]:
        return self.mine.batches(epoch)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        batch = self.mine.collate(indices, step=step, first_sequence=first_sequence)
        theirs = self.theirs.collate(indices, step=step, first_sequence=first_sequence)
        return batch | {THEIRS + name: x for name, x in theirs.items() if name in INPUTS}

    def evaluation_batches(self) -> list[dict[str, np.ndarray]]:
        return [self.collate(numbers) for numbers in self.mine.evaluation_numbers()]


def reads_twice(batch: Mapping[str, np.ndarray]) -> bool:
    """Whether the batch holds the teacher's own tokens beside the student's."""
    return any(name.startswith(THEIRS) for name in batch)


def as_teacher_reads(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch in the teacher's own tokens, where it holds these beside the student's."""
    own = {n.removeprefix(THEIRS): x for n, x in batch.items() if n.startswith(THEIRS)}
    if not own:
        return batch
    rest = {n: x for n, x in batch.items() if n not in INPUTS and not n.startswith(THEIRS)}
    return rest | own
