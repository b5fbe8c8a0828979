"""Texts with labels, tokenised in memory: what a classifier or a regressor is trained on."""

import math

import numpy as np

from minidistil.data.memory import InMemory, padded

SINGLE = "single_label_classification"
MULTI = "multi_label_classification"
REGRESSION = "regression"
PROBLEMS = (SINGLE, MULTI, REGRESSION)


class LabelledText(InMemory):
    """Examples (text, text_pair or None, label) to train on, and others to evaluate on.

    names: the labels' names in the order of their numbers; by default those that the training
    examples hold, see `label_names`. problem_type, as in transformers, says what a label is:

        single_label_classification   one name                        labels (B,) int64
        multi_label_classification    names: a list, or a str with    labels (B,K) float32, 0 or 1
                                      commas between
        regression                    a number                        labels (B,) float32

    Raises ValueError for an example without a label or with one that is not among the names.
    """

    def __init__(
        self, examples, tokenizer, *, tokens, evaluation=(), seed=0, problem_type=SINGLE,
        names=None, max_length=None, max_sequences=None,
    ):  # fmt: skip
        if problem_type not in PROBLEMS:
            raise ValueError(f"problem_type must be one of {PROBLEMS}, not {problem_type!r}")
        examples, evaluation = list(examples), list(evaluation)
        if not examples and not evaluation:
            raise ValueError("there are no examples; give at least one")
        self.tokenizer = tokenizer
        self.problem_type, self.names = problem_type, ()
        if problem_type != REGRESSION:
            labels = [label for *_, label in examples or evaluation]
            self.names = tuple(names or label_names(labels, problem_type))
        every = examples + evaluation
        self.labels = label_numbers([label for *_, label in every], problem_type, self.names)
        self.sequences, self.types = _encode(every, tokenizer, max_length)
        super().__init__(
            [len(ids) for ids in self.sequences], len(examples), tokens=tokens, seed=seed,
            max_sequences=max_sequences,
        )  # fmt: skip

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these examples with their labels; a step changes nothing here."""
        batch = padded(indices, self.sequences, self.types, self.tokenizer)
        return {**batch, "labels": self.labels[indices]}


def label_names(labels, problem_type=SINGLE):
    """The different labels as str: by value when all are whole numbers, else by spelling."""
    names = {name for i, label in enumerate(labels) for name in _given(i, label, problem_type)}
    try:
        return tuple(sorted(names, key=int))
    except ValueError:
        return tuple(sorted(names))


def _given(i, label, problem_type):
    """The names that example i's label says."""
    if label is None:
        raise ValueError(f"example {i} has no label; name the column that holds the labels")
    if problem_type == SINGLE:
        return [str(label).strip()]
    parts = label.split(",") if isinstance(label, str) else label
    if not isinstance(parts, list):
        raise ValueError(f"example {i}: several labels must be a list or 'a,b', not {label!r}")
    return [name for part in parts if (name := str(part).strip())]


def label_numbers(labels, problem_type, names):
    """Labels as a model is told them, see `LabelledText`. Raises ValueError for one that is none of
    the names."""
    if problem_type == REGRESSION:
        return np.array([_float(i, label) for i, label in enumerate(labels)], np.float32)
    numbers = {name: k for k, name in enumerate(names)}
    given = [
        [_index(i, name, numbers) for name in _given(i, label, problem_type)]
        for i, label in enumerate(labels)
    ]
    if problem_type == SINGLE:
        return np.array([k for (k,) in given], np.int64)
    hot = np.zeros((len(labels), len(names)), np.float32)
    for i, ks in enumerate(given):
        hot[i, ks] = 1
    return hot


def _index(i, name, numbers):
    """A label is a name, or, where no name is itself a number, the number of a name."""
    if name in numbers:
        return numbers[name]
    if name.isdecimal() and int(name) < len(numbers) and not any(n.isdecimal() for n in numbers):
        return int(name)
    raise ValueError(
        f"example {i} has the label {name!r}, which is none of {', '.join(numbers)}; remove it or "
        "give all names"
    )


def _float(i, label):
    try:
        value = float(label)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"example {i}: regression needs a finite number as label, not {label!r}")
    return value


def _encode(examples, tokenizer, max_length):
    """Examples  ->  their ids and token types, unpadded."""
    paired = examples[0][1] is not None
    for i, (text, pair, _) in enumerate(examples):
        if (pair is not None) != paired:
            raise ValueError(
                f"example {i} has {'one text' if paired else 'two texts'}, the first example "
                f"{'two' if paired else 'one'}; all must be alike"
            )
        if not text.strip() or (paired and not pair.strip()):
            raise ValueError(f"example {i} has an empty text; remove it")
    texts, pairs, _ = zip(*examples, strict=True)
    return tokenizer.sequences(texts, pairs if paired else None, max_length)
