"""Predicts the last hidden state of every token of a text."""

import numpy as np

from minidistil.tasks.base_predictor import Predictor, listed


class FeatureExtraction(Predictor):
    """Vectors of tokens."""

    def __call__(self, inputs: str | list) -> list:
        """A text  ->  [its T vectors of C numbers]; a list of texts  ->  a list of such lists."""
        vectors = []
        for _, rows, result in self.results(listed(inputs)):
            hidden = np.split(self.model.ops.place.fetch(result.hidden[-1]), rows.bounds[1:-1])
            vectors.extend([h.tolist()] for h in hidden)
        return vectors if isinstance(inputs, list) else vectors[0]
