"""One vector for each text, as sentence-transformers' `encode` gives it."""

import numpy as np

from minidistil.pipeline.predictor import Predictor, listed


class SentenceEmbedding(Predictor):
    def __init__(self, model, tokenizer):
        super().__init__(model, tokenizer)
        length = model.pooling.max_length
        tokenizer.max_length = min(tokenizer.max_length, length or tokenizer.max_length)

    def __call__(self, inputs):
        """A text  ->  C numbers; a list of texts  ->  a list of such lists."""
        vectors = self.encode(listed(inputs)).tolist()
        return vectors if isinstance(inputs, list) else vectors[0]

    def encode(self, texts):
        """B texts  ->  (B,C)."""
        return np.concatenate(
            [self.model.vectors(result, rows) for _, rows, result in self.results(texts)]
        )
