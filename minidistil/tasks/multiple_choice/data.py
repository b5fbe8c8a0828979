"""Questions with choices, one of which is correct: JSON lines, tokenised in memory.

    {"question": "What do cows drink?", "choices": ["Milk.", "Water."], "label": 1}

null, NaN, "", "-" and −1 are missing labels, as in a test set. An optional "context" is put before
the question. Each choice forms a pair of texts with the question; a batch holds them as
(B,choices,T).
Source: Zellers et al., "SWAG", 2018, in the form of Devlin et al., "BERT", 2018, §4.4.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.in_memory import InMemory, padded
from minidistil.data.label_values import unlabelled, warn_of_left_out
from minidistil.data.sources import files_of, label_column, records
from minidistil.data.tokenizer import Tokenizer
from minidistil.io import limits


class Choice(NamedTuple):
    """A question with its choices; label: the number of the correct choice, None if unknown."""

    question: str
    choices: tuple[str, ...]
    label: int | None


def choice_of(record: Mapping, place: str) -> Choice:
    """A JSON object  ->  Choice. Raises ValueError with its place."""
    question, choices = record.get("question"), record.get("choices")
    context = record.get("context") or ""
    texts = [question, *choices] if isinstance(choices, list) else [question]
    right = isinstance(context, str) and all(isinstance(x, str) and x.strip() for x in texts)
    if len(texts) < 3 or not right:
        raise ValueError(
            f'{place}: an item is {{"question": "…", "choices": ["…", "…"]}}, two choices or more, '
            f"none of them empty"
        )
    label = record.get(label_column(record))
    if label == -1 or unlabelled([label])[0]:
        label = None
    if label is not None and (type(label) is not int or not 0 <= label < len(choices)):
        raise ValueError(
            f"{place}: label must be the number of a choice, 0 to {len(choices) - 1}, not "
            f"{limits.short(label)}"
        )
    return Choice(f"{context} {question}".strip(), tuple(choices), label)


def choices_of(source: str | Path, skip_unlabelled: bool = False) -> list[Choice]:
    """A .jsonl file or folder of them  ->  list of Choice.

    skip_unlabelled: leaves out those without a label, with a warning.
    """
    found = [choice_of(record, place)
             for path in files_of(source) for place, record in records(path, ())]  # fmt: skip
    if not found:
        raise ValueError(f"{source} holds no question; a data file needs at least one")
    if skip_unlabelled:
        kept = [choice for choice in found if choice.label is not None]
        warn_of_left_out(len(found) - len(kept), len(found))
        return kept
    return found


class Choices(InMemory):
    """Questions to train on, others to evaluate on, all with the same number of choices.

    Raises ValueError for a question with another number of choices and, if `labelled`, for one
    without a label.
    """

    def __init__(
        self, examples: Sequence[Choice], tokenizer: Tokenizer, batching: Batching, *,
        evaluation: Sequence[Choice] = (), max_length: int | None = None, labelled: bool = True,
    ):  # fmt: skip
        every = [*examples, *evaluation]
        if not every:
            raise ValueError("there are no questions; give at least one")
        self.tokenizer, self.count = tokenizer, len(every[0].choices)
        for i, example in enumerate(every):
            if len(example.choices) != self.count:
                raise ValueError(
                    f"question {i} has {len(example.choices)} choices, the first {self.count}; "
                    f"all must have as many"
                )
            if labelled and example.label is None:
                raise ValueError(
                    f"question {i} has no label; say which choice is right, or leave such "
                    f"questions out with --skip-unlabelled"
                )
        questions = [example.question for example in every for _ in example.choices]
        choices = [choice for example in every for choice in example.choices]
        self.sequences, self.types = tokenizer.sequences(questions, choices, max_length)
        self.labels = np.array([example.label or 0 for example in every], np.int64)
        self.labelled = labelled
        lengths = np.array([len(ids) for ids in self.sequences]).reshape(-1, self.count)
        super().__init__(lengths.sum(axis=1), len(examples), batching)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these questions (B,choices,T), the same at every step."""
        indices = np.asarray(indices)
        every = (indices[:, None] * self.count + np.arange(self.count)).ravel()
        batch = padded(every, self.sequences, self.types, self.tokenizer)
        batch = {n: x.reshape(len(indices), self.count, -1) for n, x in batch.items()}
        return {**batch, "labels": self.labels[indices]} if self.labelled else batch
