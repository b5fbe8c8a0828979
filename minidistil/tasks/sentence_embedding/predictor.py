"""Predicts one vector for each text, equal to `encode` of sentence-transformers."""

from collections.abc import Sequence

import numpy as np

from minidistil.data.tokenizer import Tokenizer
from minidistil.tasks.base_predictor import Predictor, listed
from minidistil.tasks.sentence_embedding.data import in_lower_case, prompted


class SentenceEmbedding(Predictor):
    """Vectors of texts, with one of the folder's prompts before each text."""

    def __init__(self, model, tokenizer: Tokenizer):
        super().__init__(model, in_lower_case(tokenizer) if model.pooling.lower_case else tokenizer)
        length = model.pooling.max_length
        tokenizer.max_length = min(tokenizer.max_length, length or tokenizer.max_length)

    def __call__(
        self, inputs: str | list, prompt_name: str | None = None, max_length: int | None = None
    ) -> list:
        """A text  ->  C numbers; a list of texts  ->  a list of such lists.

        prompt_name: None for the folder's default prompt. Raises ValueError for one that the folder
        lacks.
        """
        vectors = self.encode(listed(inputs), prompt_name, max_length).tolist()
        return vectors if isinstance(inputs, list) else vectors[0]

    def encode(
        self, texts: Sequence[str], prompt_name: str | None = None, max_length: int | None = None
    ) -> np.ndarray:
        """B texts  ->  (B,C), of max_length tokens of each; None: the folder's length."""
        if prompt := self.model.pooling.prompt(prompt_name):
            texts = [prompted(text, prompt) for text in texts]
        return np.concatenate(
            [
                self.model.vectors(result, rows)
                for _, rows, result in self.results(texts, max_length)
            ]
        )
