"""Data whose batches say which sequences they hold, so that what is kept of one is found again."""

import numpy as np


class Numbered:
    """The same data, with `numbers` (B,) in each batch: those that `batches` gives."""

    def __init__(self, data):
        self.data, self.seed = data, data.seed
        self.labelled = getattr(data, "labelled", True)  # data of the caller's own may not say

    def batches(self, epoch):
        return self.data.batches(epoch)

    def collate(self, indices, *, step, first_sequence=0):
        batch = self.data.collate(indices, step=step, first_sequence=first_sequence)
        return {**batch, "numbers": np.asarray(indices, np.int64)}

    def evaluation_batches(self):
        return self.data.evaluation_batches()
