"""From --data to what a model with labels is trained on or distilled on."""

import warnings

import numpy as np

from minidistil.config import read_config
from minidistil.data import documents, examples, split
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
from minidistil.io.console import progress, said_once
from minidistil.io.limits import few
from minidistil.model.checkpoint import CONFIG
from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import LABELS
from minidistil.tasks.text_classification.data import LabelledText, label_names
from minidistil.tasks.text_data import HELD_OUT_SEED


def read_examples(args, data):
    """A list of (text, text_pair or None, label or None)."""
    columns = {"text": args.text_column, "text_pair": args.text_pair_column,
               "label": args.label_column}  # fmt: skip
    return list(progress(examples(data, **columns), "reading", unit=" texts"))


def read_texts(args, data):
    """As `read_examples`, for a teacher who needs no labels: the lines of a .txt, too."""
    if any(kind_of(path) != ".txt" for path in files_of(data)):
        return read_examples(args, data)
    return [(text, None, None) for text in progress(documents(data), "reading", unit=" texts")]


def add_label_options(parser):
    parser.add_argument(
        "--skip-unlabelled", action="store_true",
        help='leave out examples without a label, which stop a command: null, NaN, "", "-", and -1 '
        "beside numbers from 0 on",
    )  # fmt: skip


def reader_of_labelled(problem_type=SINGLE, names=(), read=read_examples):
    """What read(args, path) gives, whose last part is a label; with --skip-unlabelled those that
    have one."""

    def labelled(args, path):
        found = read(args, path)
        return keep_labelled(found, problem_type, names) if args.skip_unlabelled else found

    return labelled


def has_labels(found, problem_type=SINGLE, names=()):
    """Whether any of the examples has a label."""
    return not all(unlabelled([label for *_, label in found], problem_type, names))


def in_two(found, held_out):
    """Examples  ->  those to train on, those held out."""
    kept, out = split(np.arange(len(found)), held_out, HELD_OUT_SEED)
    return [found[i] for i in kept], [found[i] for i in out]


def training_and_evaluation(args, read):
    """What read(args, path) gives of --data, and of --eval-data or else the part held out."""
    training = read(args, args.data)
    if args.eval_data:
        return training, read(args, args.eval_data)
    return in_two(training, args.held_out)


def held_out_of(args, read):
    """What read(args, path) gives of --data: all of it, or the part that --held-out names."""
    found = read(args, args.data)
    return found if args.held_out is None else in_two(found, args.held_out)[1]


def relabelled(args, folder, task, labels_of):
    """The folder's model with a head of labels_of(its config) -> (K, problem type, names)."""
    K, kind, names = labels_of(read_config(folder / CONFIG))
    with said_once(args):
        model = from_pretrained(
            folder, task=task, num_labels=K, problem_type=kind, backend=args.backend,
            dtype="float32", seed=args.seed,
        )  # fmt: skip
    model.config = model.config.with_labels(K, kind, names)
    return model


def names_for(labels, problem_type, known):
    """The labels' names; a model's own, in its order, where it knows all of them. A warning says
    where the classes that it knows get other names, and keep their weights."""
    check_labelled(labels, problem_type, known or ())
    if problem_type == REGRESSION:
        return ()
    names = label_names(labels, problem_type)
    rows = hot_classes(labels, problem_type)  # which name no class
    if set(names) <= set(known or ()) or (rows and rows == len(known or ())):
        return known
    say_renamed(known, names)
    return names


def say_renamed(known, names):
    """Warn that a head of as many classes is kept under other names."""
    if are_words(known) and len(known) == len(names):
        warnings.warn(
            f"the model's classes {few(known, 5)} are called {few(names, 5)} from now on, as the "
            f"data's labels; its head begins with the weights of the former", stacklevel=3,
        )  # fmt: skip


def known_names(config):
    """The labels' names that a model knows; their numbers where it has no names."""
    return config.id2label or tuple(str(k) for k in range(config.num_labels))


def labels_of(config):
    """problem type, names: what a model takes a label for; one output alone is a number, as
    transformers takes it."""
    alone = REGRESSION if config.num_labels == 1 else SINGLE
    return config.problem_type or alone, known_names(config)


class WithoutLabels:
    """Data whose training batches say nothing of their labels; those to evaluate on do, unless
    they have none either: `unlabelled` in a batch says so."""

    labelled = False

    def __init__(self, data, to_evaluate=True):
        self.data, self.to_evaluate = data, to_evaluate

    def __getattr__(self, name):
        """Everything but its batches is the data's own."""
        return getattr(self.data, name)

    def evaluation_batches(self):
        """The data's; where there are no labels, those it holds stand in their places alone."""
        batches = self.data.evaluation_batches()
        return batches if self.to_evaluate else [{**b, "unlabelled": True} for b in batches]

    def collate(self, indices, **place):
        """As the data's; its numbers from `size` on are those to evaluate on."""
        batch = self.data.collate(indices, **place)
        if min(indices) >= self.data.size:
            return batch
        return {name: x for name, x in batch.items() if name not in LABELS}


class Unlabelled(LabelledText):
    """Texts without labels, for a student that learns from its teacher alone.

    Those to evaluate on keep theirs where each has one: problem_type and names are what they are
    read with.
    """

    labelled = False

    def __init__(self, found, tokenizer, *, problem_type, names, evaluation=(), **options):
        blank, held_out = ([(*texts, 0) for *texts, _ in part] for part in (found, evaluation))
        super().__init__(blank, tokenizer, evaluation=held_out, problem_type=REGRESSION, **options)
        self.first, self.answers = len(blank), None  # the number of the first to evaluate on
        given = [label for *_, label in evaluation]
        if given and not any(unlabelled(given, problem_type, names)):
            self.answers = label_numbers(given, problem_type, names)

    def collate(self, indices, *, step=0, first_sequence=0):
        batch = super().collate(indices)
        del batch["labels"]
        if min(indices) < self.size or self.answers is None:
            return batch
        return {**batch, "labels": self.answers[self.owners[indices] - self.first]}
