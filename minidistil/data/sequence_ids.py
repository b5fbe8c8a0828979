"""Adds sequence ids to each batch, used as keys of the teacher cache."""

from collections.abc import Sequence

import numpy as np


class Numbered:
    """The same data, with the sequence numbers of `batches` as `numbers` (B,) in each batch."""

    def __init__(self, data):
        self.data, self.seed = data, data.seed
        self.labelled = getattr(data, "labelled", True)  # a caller's own data may lack it

    def batches(self, epoch: int) -> list[np.ndarray]:
        return self.data.batches(epoch)

    def collate(
        self, indices: Sequence[int], *, step: int, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        batch = self.data.collate(indices, step=step, first_sequence=first_sequence)
        return {**batch, "numbers": np.asarray(indices, np.int64)}

    def evaluation_batches(self) -> list[dict]:
        return self.data.evaluation_batches()
