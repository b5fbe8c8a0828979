"""One vector for each text, as sentence-transformers' `encode` gives it."""

import numpy as np

from minidistil.tasks.base_predictor import Predictor, listed
from minidistil.tasks.sentence_embedding.data import in_lower_case, prompted


class SentenceEmbedding(Predictor):
    """Vectors of texts, each behind a prompt of the folder's: by name, or the default one."""

    def __init__(self, model, tokenizer):
        super().__init__(model, in_lower_case(tokenizer) if model.pooling.lower_case else tokenizer)
        length = model.pooling.max_length
        tokenizer.max_length = min(tokenizer.max_length, length or tokenizer.max_length)

    def __call__(self, inputs, prompt_name=None, max_length=None):
        """A text  ->  C numbers; a list of texts  ->  a list of such lists.

        Raises ValueError for a prompt_name that the folder lacks.
        """
        vectors = self.encode(listed(inputs), prompt_name, max_length).tolist()
        return vectors if isinstance(inputs, list) else vectors[0]

    def encode(self, texts, prompt_name=None, max_length=None):
        """B texts  ->  (B,C), of max_length tokens of each; None: of as many as the folder says."""
        if prompt := self.model.pooling.prompt(prompt_name):
            texts = [prompted(text, prompt) for text in texts]
        return np.concatenate(
            [
                self.model.vectors(result, rows)
                for _, rows, result in self.results(texts, max_length)
            ]
        )
