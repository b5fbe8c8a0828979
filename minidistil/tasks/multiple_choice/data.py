"""Questions with some choices, one of which is right: JSON lines, tokenised in memory.

    {"question": "What do cows drink?", "choices": ["Milk.", "Water."], "label": 1}

null, NaN, "", "-" and −1 are no label, as in a test set. "context", a text that the question is
about, stands before it. Every choice makes a pair of texts, the question and the choice, and a
batch holds them as (B,choices,T).
Source: Zellers et al., "SWAG", 2018, in the form of Devlin et al., "BERT", 2018, §4.4.
"""

from typing import NamedTuple

import numpy as np

from minidistil.data.in_memory import InMemory, padded
from minidistil.data.label_values import say_left_out, unlabelled
from minidistil.data.sources import files_of, label_column, records
from minidistil.io import limits


class Choice(NamedTuple):
    """label: the number of the right choice, None where it is not known."""

    question: str
    choices: tuple
    label: int | None


def choice_of(record, place):
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


def choices_of(source, skip_unlabelled=False):
    """A .jsonl file or folder of them  ->  list of Choice.

    skip_unlabelled: those without a label are left out, which a warning counts.
    """
    found = [choice_of(record, place)
             for path in files_of(source) for place, record in records(path, ())]  # fmt: skip
    if not found:
        raise ValueError(f"{source} holds no question; a data file needs at least one")
    if skip_unlabelled:
        kept = [choice for choice in found if choice.label is not None]
        say_left_out(len(found) - len(kept), len(found))
        return kept
    return found


class Choices(InMemory):
    """Questions to train on, others to evaluate on, all with as many choices.

    Raises ValueError for one with more or fewer choices, or without a label.
    """

    def __init__(
        self, examples, tokenizer, *, tokens, evaluation=(), seed=0, max_length=None,
        labelled=True,
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
        super().__init__(lengths.sum(axis=1), len(examples), tokens=tokens, seed=seed)

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these questions (B,choices,T); a step changes nothing here."""
        indices = np.asarray(indices)
        every = (indices[:, None] * self.count + np.arange(self.count)).ravel()
        batch = padded(every, self.sequences, self.types, self.tokenizer)
        batch = {n: x.reshape(len(indices), self.count, -1) for n, x in batch.items()}
        return {**batch, "labels": self.labels[indices]} if self.labelled else batch
