"""Examples tokenised in memory: the first of them to train on, the others to evaluate on."""

import numpy as np

from minidistil.data.batches import collate, plan


class InMemory:
    """What `run_loop` reads; a subclass says in `collate(indices, ...)` what a batch holds.

    lengths: real tokens of each example; size: how many of the examples are to train on, those
    after them being for evaluation. tokens: real tokens a batch. `labelled`: whether a training
    batch says enough to learn from without a teacher.
    """

    labelled = True

    def __init__(self, lengths, size, *, tokens, seed=0, max_sequences=None):
        self.lengths, self.size = np.asarray(lengths, np.int64), size
        self.tokens, self.seed, self.max_sequences = tokens, seed, max_sequences

    def batches(self, epoch):
        """One epoch: a list of arrays of example numbers."""
        return plan(
            self.lengths[: self.size], tokens=self.tokens, seed=self.seed, epoch=epoch,
            max_sequences=self.max_sequences,
        )  # fmt: skip

    def evaluation_batches(self):
        """The evaluation examples: a list of batches that is the same at every call."""
        return [self.collate(numbers) for numbers in self.evaluation_numbers()]

    def evaluation_numbers(self):
        """Which examples those batches hold: a list of arrays."""
        lengths = self.lengths[self.size :]
        if not len(lengths):
            return []
        return [self.size + i for i in plan(lengths, tokens=self.tokens, seed=0, epoch=0)]


def padded(indices, sequences, types, tokenizer):
    """The batch of some of the sequences, with their token types where the model reads them."""
    batch = collate([sequences[i] for i in indices], tokenizer.pad_id)
    if tokenizer.token_types:
        batch["token_type_ids"] = collate([types[i] for i in indices], 0)["input_ids"]
    return batch
