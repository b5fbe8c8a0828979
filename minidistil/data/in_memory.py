"""Base class of data tokenised in memory: first training examples, then evaluation examples."""

from collections.abc import Mapping, Sequence

import numpy as np

from minidistil.data.batches import Batching, collate, plan
from minidistil.data.tokenizer import Tokenizer


class InMemory:
    """Data for `run_loop`; a subclass defines `collate(indices, ...)`, the arrays of a batch.

    lengths: real tokens of each example; size: how many of the examples are to train on, those
    after them being for evaluation. `labelled`: whether a training batch has targets without a
    teacher.
    """

    labelled = True

    def __init__(self, lengths: Sequence[int], size: int, batching: Batching):
        self.lengths, self.size, self.batching = np.asarray(lengths, np.int64), size, batching

    @property
    def seed(self) -> int:
        """The seed of the order of training examples."""
        return self.batching.seed

    def batches(self, epoch: int) -> list[np.ndarray]:
        """One epoch: a list of arrays of example numbers."""
        return plan(self.lengths[: self.size], epoch=epoch, **vars(self.batching))

    def evaluation_batches(self) -> list[dict]:
        """The batches of the evaluation examples, the same at every call."""
        return [self.collate(numbers) for numbers in self.evaluation_numbers()]

    def evaluation_numbers(self) -> list[np.ndarray]:
        """The example numbers of each evaluation batch."""
        lengths = self.lengths[self.size :]
        if not len(lengths):
            return []
        batches = plan(lengths, tokens=self.batching.tokens, seed=0, epoch=0)
        return [self.size + i for i in batches]


def padded(
    indices: Sequence[int],
    sequences: Sequence[np.ndarray] | Mapping[int, np.ndarray],
    types: Sequence[np.ndarray] | Mapping[int, np.ndarray],
    tokenizer: Tokenizer,
) -> dict[str, np.ndarray]:
    """The batch of some of the sequences, with their token types where the model reads them."""
    batch = collate([sequences[i] for i in indices], tokenizer.pad_id)
    if tokenizer.token_types:
        batch["token_type_ids"] = collate([types[i] for i in indices], 0)["input_ids"]
    return batch
