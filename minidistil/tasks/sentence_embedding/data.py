"""Pairs of texts for sentence embeddings, with similarities as labels or without labels."""

from collections.abc import Sequence

import numpy as np
from tokenizers import normalizers

from minidistil.data.batches import Batching
from minidistil.data.in_memory import InMemory, padded
from minidistil.data.label_values import number_of
from minidistil.data.tokenizer import Tokenizer


def in_lower_case(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, changed to lower-case every text."""
    inner = tokenizer.backend.normalizer
    if inner is None or inner.normalize_str("A") != "a":
        steps = [normalizers.Lowercase(), *([] if inner is None else [inner])]
        tokenizer.backend.normalizer = normalizers.Sequence(steps)
    return tokenizer


def prompted(text: str, prompt: str) -> str:
    """prompt + text; an empty or invalid text is unchanged, so that the tokenizer refuses it."""
    return prompt + text if isinstance(text, str) and text.strip() else text


class SentencePairs(InMemory):
    """Pairs (text, text_pair, label) to train on, others to evaluate on.

    highest: the label that stands for a cosine of 1. Without labels, each text's match is the other
    text of its pair. prompt: is put before every text.
    Raises ValueError for an example without a second text, and for one without a number as label
    where others have one.
    """

    def __init__(
        self, examples: Sequence[tuple], tokenizer: Tokenizer, batching: Batching, *,
        evaluation: Sequence[tuple] = (), max_length: int | None = None, highest: float = 1.0,
        prompt: str = "",
    ):  # fmt: skip
        every = [*examples, *evaluation]
        self.labels = None
        if any(label is not None for *_, label in every):
            numbers = [number_of(i, label) for i, (*_, label) in enumerate(every)]
            with np.errstate(over="ignore"):
                self.labels = np.array(numbers, np.float32) / np.float32(highest)
            if not np.isfinite(self.labels).all():
                raise ValueError(
                    f"the similarities, up to {max(numbers)}, are beyond float32 where "
                    f"{highest} stands for a cosine of 1; give the largest similarity"
                )
        for i, (_, pair, _) in enumerate(every):
            if pair is None:
                raise ValueError(f"example {i} is a single text; name the column of its partner")
        self.tokenizer = tokenizer
        texts = [prompted(text, prompt) for example in every for text in example[:2]]
        self.sequences, self.types = tokenizer.sequences(texts, None, max_length)
        lengths = np.array([len(ids) for ids in self.sequences]).reshape(-1, 2)
        super().__init__(lengths.sum(axis=1), len(examples), batching)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these pairs (B,2,T), the same at every step."""
        indices = np.asarray(indices)
        both = (2 * indices[:, None] + np.arange(2)).ravel()
        batch = padded(both, self.sequences, self.types, self.tokenizer)
        batch = {name: x.reshape(len(indices), 2, -1) for name, x in batch.items()}
        return batch if self.labels is None else {**batch, "labels": self.labels[indices]}
