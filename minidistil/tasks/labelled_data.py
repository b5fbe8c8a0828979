"""Labelled --data of the commands: reading, splitting, missing labels, and the model's new head."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from minidistil.config import read_config
from minidistil.data import Batching, Tokenizer, documents, examples, split
from minidistil.data.label_values import (
    REGRESSION,
    SINGLE,
    are_words,
    check_labelled,
    hot_classes,
    keep_labelled,
    label_numbers,
    unlabelled,
)
from minidistil.data.sources import files_of, kind_of
from minidistil.io.console import progress, silent_on_resume
from minidistil.io.limits import few
from minidistil.model.checkpoint import CONFIG
from minidistil.model.model import Model
from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import LABELS
from minidistil.tasks.data_options import HELD_OUT_SEED
from minidistil.tasks.text_classification.data import LabelledText, label_names


def read_examples(args, data: str) -> list[tuple]:
    """A list of (text, text_pair or None, label or None)."""
    columns = {"text": args.text_column, "text_pair": args.text_pair_column,
               "label": args.label_column}  # fmt: skip
    return list(progress(examples(data, **columns), "reading", unit=" texts"))


def read_texts(args, data: str) -> list[tuple]:
    """As `read_examples`, or the lines of a .txt, which has no labels."""
    if any(kind_of(path) != ".txt" for path in files_of(data)):
        return read_examples(args, data)
    return [(text, None, None) for text in progress(documents(data), "reading", unit=" texts")]


def add_label_options(parser) -> None:
    parser.add_argument(
        "--skip-unlabelled", action="store_true",
        help='leave out examples without a label, which stop a command: null, NaN, "", "-", and -1 '
        "beside numbers from 0 on",
    )  # fmt: skip


def reader_of_labelled(
    problem_type: str = SINGLE, names: Sequence[str] = (), read: Callable = read_examples
) -> Callable:
    """The function read(args, path) -> examples (…, label); with --skip-unlabelled it returns only
    the examples with a label."""

    def labelled(args, path):
        found = read(args, path)
        return keep_labelled(found, problem_type, names) if args.skip_unlabelled else found

    return labelled


def has_labels(
    found: Iterable[tuple], problem_type: str = SINGLE, names: Sequence[str] = ()
) -> bool:
    """Whether any of the examples has a label."""
    return not all(unlabelled([label for *_, label in found], problem_type, names))


def in_two(found: Sequence, held_out: float) -> tuple[list, list]:
    """Examples  ->  those to train on, those held out."""
    kept, out = split(np.arange(len(found)), held_out, HELD_OUT_SEED)
    return [found[i] for i in kept], [found[i] for i in out]


def training_and_evaluation(args, read: Callable) -> tuple[list, list]:
    """The examples that read(args, path) returns of --data, and of --eval-data or else the part
    held out."""
    training = read(args, args.data)
    if args.eval_data:
        return training, read(args, args.eval_data)
    return in_two(training, args.held_out)


def held_out_of(args, read: Callable) -> list:
    """The examples that read(args, path) returns of --data: all, or the part held out."""
    found = read(args, args.data)
    return found if args.held_out is None else in_two(found, args.held_out)[1]


def relabelled(args, folder: Path, task: str, head_for: Callable) -> Model:
    """The folder's model with a head for head_for(its config) -> (K, problem type, names)."""
    K, kind, names = head_for(read_config(folder / CONFIG))
    with silent_on_resume(args):
        model = from_pretrained(
            folder, task=task, num_labels=K, problem_type=kind, backend=args.backend,
            dtype=args.dtype, seed=args.seed,
        )  # fmt: skip
    model.config = model.config.with_labels(K, kind, names)
    return model


def names_for(labels: Sequence, problem_type: str, known: Sequence[str] | None) -> Sequence[str]:
    """The names of the labels' classes; known: the model's names, which are kept, in their order,
    if they include all labels. Otherwise a head of as many classes is renamed, with a warning."""
    check_labelled(labels, problem_type, known or ())
    if problem_type == REGRESSION:
        return ()
    names = label_names(labels, problem_type)
    rows = hot_classes(labels, problem_type)  # rows of 0 and 1 have no names
    if set(names) <= set(known or ()) or (rows and rows == len(known or ())):
        return known
    warn_of_renamed(known, names)
    return names


def warn_of_renamed(known: Sequence[str] | None, names: Sequence[str]) -> None:
    """Warn that the head is kept and its classes renamed, if there are as many."""
    if are_words(known) and len(known) == len(names):
        warnings.warn(
            f"the model's classes {few(known, 5)} are called {few(names, 5)} from now on, as the "
            f"data's labels; its head begins with the weights of the former", stacklevel=3,
        )  # fmt: skip


def known_names(config) -> tuple[str, ...]:
    """The names of a model's classes; without names, their numbers as str."""
    return config.id2label or tuple(str(k) for k in range(config.num_labels))


def labels_of(config) -> tuple[str, tuple[str, ...]]:
    """A model's problem type and class names; a single output is a regression, as in
    transformers."""
    alone = REGRESSION if config.num_labels == 1 else SINGLE
    return config.problem_type or alone, known_names(config)


class WithoutLabels:
    """The same data without labels in training batches.

    to_evaluate: whether evaluation examples have labels; otherwise their batches keep placeholder
    labels and have `unlabelled`.
    """

    labelled = False

    def __init__(self, data, to_evaluate: bool = True):
        self.data, self.to_evaluate = data, to_evaluate

    def __getattr__(self, name):
        """Other attributes are those of the data."""
        return getattr(self.data, name)

    def evaluation_batches(self) -> list[dict]:
        """The data's evaluation batches, marked `unlabelled` if their labels are placeholders."""
        batches = self.data.evaluation_batches()
        return batches if self.to_evaluate else [{**b, "unlabelled": True} for b in batches]

    def collate(self, indices: Sequence[int], **place) -> dict:
        """The data's batch; without labels, unless its examples are for evaluation."""
        batch = self.data.collate(indices, **place)
        if min(indices) >= self.data.size:
            return batch
        return {name: x for name, x in batch.items() if name not in LABELS}


class Unlabelled(LabelledText):
    """Texts without labels, for a student that learns from its teacher alone.

    Evaluation examples keep their labels if each has one; problem_type and names are those of these
    labels.
    """

    labelled = False

    def __init__(
        self, found: Iterable[tuple], tokenizer: Tokenizer, batching: Batching, *,
        problem_type: str, names: Sequence[str], evaluation: Iterable[tuple] = (), **options,
    ):  # fmt: skip
        evaluation = list(evaluation)
        # Label 0 of a regression is a placeholder: `collate` removes it.
        blank, held_out = ([(*texts, 0) for *texts, _ in part] for part in (found, evaluation))
        super().__init__(
            blank, tokenizer, batching, evaluation=held_out, problem_type=REGRESSION, **options
        )
        self.first, self.answers = len(blank), None  # first: number of the first evaluation text
        given = [label for *_, label in evaluation]
        if given and not any(unlabelled(given, problem_type, names)):
            self.answers = label_numbers(given, problem_type, names)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        batch = super().collate(indices)
        del batch["labels"]
        if min(indices) < self.size or self.answers is None:
            return batch
        return {**batch, "labels": self.answers[self.owners[indices] - self.first]}
