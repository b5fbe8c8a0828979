"""Training options that depend on the task and its data: the metric of --patience and --keep best,
and the weight of each class."""

import dataclasses

import numpy as np

from minidistil.io.option_types import number_list
from minidistil.model.task_loss import IGNORED
from minidistil.train.best import LOWER

BALANCED = "balanced"  # of --class-weights
MEASURES = {  # that decide which model is best: the first that an evaluation has
    "fill-mask": ("loss",), "text-generation": ("loss",), "translation": ("bleu",),
    "text-classification": ("micro_f1", "spearman", "accuracy", "agreement"),
    "token-classification": ("f1", "accuracy", "agreement"),
    "question-answering": ("f1", "agreement"), "summarization": ("rougeL",),
    "multiple-choice": ("accuracy", "agreement"),
    "sentence-embedding": ("spearman", "mrr"), "extractive-summarization": ("rougeL",),
    "image-classification": ("accuracy", "agreement"),
}  # fmt: skip


def weights_of_classes(text):
    """ "1,2.5" -> (1.0, 2.5); "balanced" stays."""
    return text if text == BALANCED else number_list(text)


def add_class_options(parser):
    """Class weights and label smoothing: fields of TrainConfig."""
    group = parser.add_argument_group("labels (text, token and image classification, extracts)")
    group.add_argument(
        "--class-weights", type=weights_of_classes, metavar="W,W,…",
        help=f"a number a class, in the order of the model's labels, or {BALANCED}: the "
        f"rarer the higher, texts/(classes·texts of the class), as in scikit-learn",
    )  # fmt: skip
    group.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="E",
        help="the share of each label that is spread over all classes, such as 0.1 (0)",
    )  # fmt: skip


def settled_config(config, args, model, data):
    """The TrainConfig with the metric of the task, and the weights of the classes."""
    weights, smoothing = (getattr(args, n, None) for n in ("class_weights", "label_smoothing"))
    if (weights is not None or smoothing) and not data.labelled:
        raise ValueError(
            "--class-weights and --label-smoothing are for labels, which the data does not have or "
            "--no-labels leaves unread; leave them out"
        )
    if weights == BALANCED:
        weights = balanced(data, model.config.num_labels)
    return dataclasses.replace(
        config, measure=args.measure or MEASURES[model.task], class_weights=weights,
        label_smoothing=smoothing or 0.0,
    )  # fmt: skip


def measure_kept(task, found):
    """The metric among `found` whose share a student keeps: the task's own, accuracy where that is
    a loss; None without labels."""
    names = [n for n in (*MEASURES[task], "accuracy") if n not in (*LOWER, "agreement")]
    return next((name for name in names if name in found), None)


def balanced(data, classes):
    """texts/(classes·texts of the class) for each class; 0 for a class without texts.

    Raises ValueError for labels that are no classes."""
    counts = np.zeros(classes)
    for indices in data.batches(0):
        labels = np.asarray(data.collate(indices, step=0).get("labels", 0.0))
        if labels.dtype.kind not in "iu":
            raise ValueError(
                f"--class-weights {BALANCED} is for labels that are one class of several; leave it "
                f"out"
            )
        labels = labels[labels != IGNORED]
        counts += np.bincount(labels, minlength=classes)[:classes]
    return tuple(np.divide(counts.sum() / classes, counts, np.zeros(classes), where=counts > 0))
