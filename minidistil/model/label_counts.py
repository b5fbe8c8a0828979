"""The weights of a batch's labels, and of micro-batches in the mean over their batch.

A loss is a sum of means over different things: labelled tokens, real tokens, texts. If micro-batch
i has nᵢ of them, with the mean mᵢ,

    mean over the batch = Σᵢ nᵢ/N·mᵢ          N = Σᵢ nᵢ

so a micro-batch multiplies each mean and its gradient by its share nᵢ/N, and the results are
summed. The plain average of the mᵢ would give more weight to a label with few others beside it.
Source: `num_items_in_batch` of transformers' Trainer since 4.46, here for every mean of a loss.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Shares(dict):
    """{mean: nᵢ/N}, 1 for a mean without an entry; without any entry, a whole batch."""

    def __missing__(self, name):
        return 1.0

    def of(self, parts: Mapping) -> Mapping:
        """{part: its mean in the micro-batch}  ->  {part: its summand of the batch's mean}."""
        return {name: self[name] * part for name, part in parts.items()} if self else parts


WHOLE = Shares()


class Counting(NamedTuple):
    """How labels count. shares: of the labels' means, under the labels' names, and of other parts.

    class_weights (a tuple of K numbers, or None) and label_smoothing: for labels that are classes.
    """

    shares: Shares = WHOLE
    class_weights: tuple | None = None
    label_smoothing: float = 0.0

    def is_plain(self) -> bool:
        """Whether there are neither class weights nor label smoothing."""
        return self.class_weights is None and not self.label_smoothing

    def options(self) -> dict:
        """Arguments of the op `weighted_cross_entropy`."""
        weights = None if self.class_weights is None else np.array(self.class_weights, np.float32)
        return {"class_weights": weights, "label_smoothing": self.label_smoothing}

    def how(self) -> str:
        """A description for messages."""
        return f"class weights {self.class_weights}, label smoothing {self.label_smoothing:g}"

    def weight_of(self, labels: np.ndarray) -> float:
        """The sum of the labels' class weights; their number without class weights."""
        if self.class_weights is None:
            return len(labels)
        weights = np.asarray(self.class_weights)
        return float(weights[labels[(labels >= 0) & (labels < len(weights))]].sum())


PLAIN = Counting()


def shares_of(counted: list) -> list[Shares]:
    """The Shares of each micro-batch. A mean over nothing in the whole batch has no entry.

    counted: for each micro-batch two mappings {mean: n}, its own counts and those that add up to
    the whole batch's.
    """
    totals = {}
    for _, whole in counted:
        for name, n in whole.items():
            totals[name] = totals.get(name, 0) + n
    return [
        Shares({name: n / totals[name] for name, n in own.items() if totals[name]})
        for own, _ in counted
    ]
