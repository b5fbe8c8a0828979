"""Pairs of texts, each text read for itself, with how similar people find them."""

import numpy as np
from tokenizers import normalizers

from minidistil.data.in_memory import InMemory, padded
from minidistil.data.label_values import number_of


def in_lower_case(tokenizer):
    """The tokenizer, which from now on reads every text in lower case; it may do so already."""
    inner = tokenizer.backend.normalizer
    if inner is None or inner.normalize_str("A") != "a":
        steps = [normalizers.Lowercase(), *([] if inner is None else [inner])]
        tokenizer.backend.normalizer = normalizers.Sequence(steps)
    return tokenizer


def prompted(text, prompt):
    """The text behind a prompt; what holds no text is left to the tokenizer, which refuses it."""
    return prompt + text if isinstance(text, str) and text.strip() else text


class SentencePairs(InMemory):
    """Pairs (text, text_pair, label) to train on, others to evaluate on.

    highest: the label that stands for a cosine of 1. Without any label a batch has none, and each
    text belongs to its partner. prompt: what is put before every text.
    Raises ValueError for an example without a partner, or without a number as label where others
    have one.
    """

    def __init__(
        self,
        examples,
        tokenizer,
        *,
        tokens,
        evaluation=(),
        seed=0,
        max_length=None,
        highest=1.0,
        prompt="",
    ):
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
        super().__init__(lengths.sum(axis=1), len(examples), tokens=tokens, seed=seed)

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these pairs (B,2,T); a step changes nothing here."""
        indices = np.asarray(indices)
        both = (2 * indices[:, None] + np.arange(2)).ravel()
        batch = padded(both, self.sequences, self.types, self.tokenizer)
        batch = {name: x.reshape(len(indices), 2, -1) for name, x in batch.items()}
        return batch if self.labels is None else {**batch, "labels": self.labels[indices]}
