"""Labelled texts, tokenised in memory: the data of classifiers and regressors."""

from collections.abc import Iterable, Sequence

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.in_memory import InMemory, padded
from minidistil.data.label_values import (
    MULTI,
    PROBLEMS,
    REGRESSION,
    SINGLE,
    check_labelled,
    label_names,
    label_numbers,
)
from minidistil.data.tokenizer import Tokenizer
from minidistil.data.windows import count_cut, parts_of

__all__ = ["MULTI", "PROBLEMS", "REGRESSION", "SINGLE", "LabelledText", "label_names"]


class LabelledText(InMemory):
    """Examples (text, text_pair or None, label) to train on, and others to evaluate on.

    names: the labels' names in the order of their numbers; by default those of the training
    examples, see `label_names`. problem_type, as in transformers, is the kind of the labels:

        single_label_classification   one name                        labels (B,) int64
        multi_label_classification    names: a list, or a str with    labels (B,K) float32, 0 or 1
                                      commas between; or a row of
                                      0 and 1 for all classes
        regression                    a number                        labels (B,) float32

    stride: a text longer than max_length becomes several windows that share so many pieces, each
    with the label of its text; None: it is cut. `owners` (M,) are the windows' examples; an
    evaluation batch has them, too.

    Raises ValueError for an example without a label (see `label_values`) or with one that is not
    among the names.
    """

    def __init__(
        self, examples: Iterable[tuple], tokenizer: Tokenizer, batching: Batching, *,
        evaluation: Iterable[tuple] = (), problem_type: str = SINGLE,
        names: Sequence[str] | None = None, max_length: int | None = None,
        stride: int | None = None,
    ):  # fmt: skip
        if problem_type not in PROBLEMS:
            raise ValueError(f"problem_type must be one of {PROBLEMS}, not {problem_type!r}")
        examples, evaluation = list(examples), list(evaluation)
        if not examples and not evaluation:
            raise ValueError("there are no examples; give at least one")
        self.tokenizer = tokenizer
        self.problem_type, self.names = problem_type, ()
        every = examples + evaluation
        check_labelled([label for *_, label in every], problem_type, names or ())
        if problem_type != REGRESSION:
            labels = [label for *_, label in examples or evaluation]
            self.names = tuple(names or label_names(labels, problem_type))
        labels = label_numbers([label for *_, label in every], problem_type, self.names)
        parts = parts_of(_encode(every, tokenizer), tokenizer, max_length, stride)
        count_cut(parts, tokenizer, max_length)
        self.sequences, self.types, self.owners = parts.ids, parts.types, parts.owners
        self.labels = labels[self.owners]
        lengths = [len(ids) for ids in self.sequences]
        super().__init__(lengths, int((self.owners < len(examples)).sum()), batching)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these examples with their labels, the same at every step."""
        batch = padded(indices, self.sequences, self.types, self.tokenizer)
        return {**batch, "labels": self.labels[indices]}

    def evaluation_batches(self) -> list[dict[str, np.ndarray]]:
        """The evaluation batches, with `owners` (B,): the text that each row is a window of."""
        return [
            {**self.collate(numbers), "owners": self.owners[numbers]}
            for numbers in self.evaluation_numbers()
        ]


def _encode(examples, tokenizer):
    """Examples  ->  their uncut encodings, one after another."""
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
    return tokenizer.whole(texts, pairs if paired else None)
