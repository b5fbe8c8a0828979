"""How the labels of a batch count, and how micro-batches add up to the batch they are cut from.

A loss is a sum of means, each over something of its own: labelled words, real tokens, texts. With
nᵢ of them in micro-batch i, and mᵢ their mean there,

    mean over the whole = Σᵢ nᵢ/N·mᵢ          N = Σᵢ nᵢ

so a micro-batch multiplies each mean and its gradient by its share nᵢ/N, and what the micro-batches
give is summed. Averaging their losses instead weighs a label more the fewer there are beside it.
Source: what transformers' Trainer does since 4.46 with `num_items_in_batch`, here for every mean
of a loss.
"""

from typing import NamedTuple

import numpy as np


class Shares(dict):
    """{mean: nᵢ/N}; 1 for a mean that is not named, so that an empty one stands for a whole
    batch."""

    def __missing__(self, name):
        return 1.0

    def of(self, parts):
        """{part: its mean in the micro-batch}  ->  {part: what it adds to the whole's}."""
        return {name: self[name] * part for name, part in parts.items()} if self else parts


WHOLE = Shares()


class Counting(NamedTuple):
    """shares: of the labels' means, under the names of the labels, and of other parts.

    class_weights (a tuple of K numbers, or None) and label_smoothing: of labels that are classes.
    """

    shares: Shares = WHOLE
    class_weights: tuple | None = None
    label_smoothing: float = 0.0

    def is_plain(self):
        """Whether every label counts 1 and is wholly sure."""
        return self.class_weights is None and not self.label_smoothing

    def options(self):
        """For the op `weighted_cross_entropy`."""
        weights = None if self.class_weights is None else np.array(self.class_weights, np.float32)
        return {"class_weights": weights, "label_smoothing": self.label_smoothing}

    def how(self):
        """In words."""
        return f"class weights {self.class_weights}, label smoothing {self.label_smoothing:g}"

    def weight_of(self, labels):
        """The sum of the weights of some labels, none of them ignored; their number without."""
        if self.class_weights is None:
            return len(labels)
        weights = np.asarray(self.class_weights)
        return float(weights[labels[(labels >= 0) & (labels < len(weights))]].sum())


PLAIN = Counting()


def shares_of(counted):
    """What each micro-batch counts, {mean: n}, by itself and in the whole's width; a list of such
    pairs  ->  the Shares of each. A mean of which the whole holds nothing is not named."""
    totals = {}
    for _, whole in counted:
        for name, n in whole.items():
            totals[name] = totals.get(name, 0) + n
    return [
        Shares({name: n / totals[name] for name, n in own.items() if totals[name]})
        for own, _ in counted
    ]
