"""Command hooks of text classification: one or several classes of texts or pairs, or regression."""

from itertools import pairwise

import numpy as np

from minidistil.config import read_config
from minidistil.data.batches import Batching
from minidistil.data.label_values import PROBLEMS, REGRESSION, SINGLE, keep_labelled
from minidistil.data.two_tokenizers import as_teacher_reads
from minidistil.io.console import TEXT_LENGTH
from minidistil.io.limits import cut
from minidistil.io.ranks import world
from minidistil.model import task_loss
from minidistil.model.checkpoint import CONFIG
from minidistil.tasks import glue_metrics
from minidistil.tasks.labelled_data import (
    Unlabelled,
    add_label_options,
    has_labels,
    held_out_of,
    labels_of,
    names_for,
    read_texts,
    reader_of_labelled,
    relabelled,
    training_and_evaluation,
)
from minidistil.tasks.measuring import measured, of_texts
from minidistil.tasks.text_classification.data import LabelledText

GUESSES = 5  # held-out texts whose labels a report shows


def add_options(parser) -> None:
    group = parser.add_argument_group("labelled text (text-classification)")
    group.add_argument("--text-pair-column", metavar="NAME", help="the second of two texts")
    group.add_argument("--label-column", metavar="NAME", help="default: label or labels")
    add_label_options(group)
    group.add_argument("--problem-type", metavar="P", help=f"{', '.join(PROBLEMS)}")


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model with a head for the data's labels, and LabelledText."""
    before = read_config(folder / CONFIG)
    kind = args.problem_type or before.problem_type or SINGLE
    if kind not in PROBLEMS:
        raise ValueError(f"--problem-type must be one of {', '.join(PROBLEMS)}, not {kind!r}")
    read = reader_of_labelled(kind, before.id2label or ())
    training, evaluation = training_and_evaluation(args, read)

    def head_of(before):
        labels = [label for *_, label in training + evaluation]
        names = names_for(labels, kind, before.id2label)
        return (1 if kind == REGRESSION else len(names)), kind, names

    model = relabelled(args, folder, "text-classification", head_of)
    return model, _data(args, tokenizer, model.config, training, evaluation)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of the examples with their labels."""
    found = held_out_of(args, reader_of_labelled(*labels_of(model.config)))
    return _data(args, tokenizer, model.config, [], found).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """LabelledText; without labels, or with --no-labels, the texts alone."""
    how = labels_of(teacher.config)

    def read(args, path):
        found = read_texts(args, path)
        wanted = args.labels and args.skip_unlabelled and has_labels(found, *how)
        return keep_labelled(found, *how) if wanted else found

    training, evaluation = training_and_evaluation(args, read)
    if args.labels and has_labels(training, *how):
        return _data(args, tokenizer, teacher.config, training, evaluation)
    if not args.labels:
        evaluation = [(*texts, None) for *texts, _ in evaluation]
    return _data(args, tokenizer, teacher.config, training, evaluation, Unlabelled)


def _data(args, tokenizer, config, training, evaluation, kind=LabelledText):
    problem_type, names = labels_of(config)
    return kind(
        training, tokenizer, Batching(args.batch_tokens, args.seed), evaluation=evaluation,
        problem_type=problem_type, names=names, max_length=args.max_length, stride=args.stride,
    )  # fmt: skip


# ------------------------------------------------------- measuring


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss and agreement; of one class accuracy, macro_f1, matthews; of several accuracy, macro_f1,
    micro_f1; of a regression mse, pearson, spearman, and Pearson's correlation as agreement."""
    logits, labels = of_texts(model, batches)

    def loss(logits, labels):
        return task_loss.classification(logits, labels, model.config, model.ops)[0]

    def scores(mine, labels):
        kind = task_loss.problem_type(model.config, labels)
        if kind == REGRESSION:
            return glue_metrics.regression(mine, labels.ravel())
        if kind == SINGLE:
            return glue_metrics.classification(mine, labels, model.config.num_labels)
        return glue_metrics.multi_label(mine, labels)

    return measured(
        model, world().share([(model.ops.place.send(logits), labels)]), loss,
        lambda logits: _classes(model, logits), scores, reference,
        _correlation if _kind(model) == REGRESSION else None,
    )  # fmt: skip


def answers(model, batches) -> np.ndarray:
    """Classes (B,), 0/1 (B,K) or numbers (B,), of all texts."""
    return _classes(model, of_texts(model, batches)[0])


def guesses(models, tokenizer, batches) -> list[dict]:
    """The first held-out texts that fit on a line, then the first others (of a long one a window),
    their label where there is one, and each model's: {"text", "right", **{name: label}}. Empty
    unless each text has one class of several."""
    teacher = models["teacher"]
    if _kind(teacher) != SINGLE:
        return []
    texts = _texts(teacher, tokenizer, list(map(as_teacher_reads, batches)))
    first = sorted(sorted(texts), key=lambda text: len(texts[text]) > TEXT_LENGTH)[:GUESSES]
    chosen = [(batch, own) for batch, own in zip(batches, _owners(batches), strict=True)
              if np.isin(own, first).any()]  # fmt: skip
    batches, owners = zip(*chosen, strict=True)
    theirs, named = list(map(as_teacher_reads, batches)), teacher.config.id2label
    found = {name: of_texts(model, theirs if name == "teacher" else batches)
             for name, model in models.items()}  # fmt: skip
    _, labels = found["teacher"]
    classes = {} if labels is None else {"right": labels}
    classes |= {name: _classes(models[name], logits) for name, (logits, _) in found.items()}
    numbers = np.searchsorted(np.unique(np.concatenate(owners)), first)
    return [
        {"text": cut(texts[text])} | {name: named[some[n]] for name, some in classes.items()}
        for n, text in zip(numbers, first, strict=True)
    ]


def _owners(batches):
    """For each batch (B,), the text that each row is a window of; without `owners`, the row."""
    starts = np.cumsum([0, *(len(batch["input_ids"]) for batch in batches)])
    return [batch.get("owners", np.arange(*starts[i : i + 2])) for i, batch in enumerate(batches)]


def _texts(model, tokenizer, batches):
    """{owner: the text of the longest window of it}."""
    found = {}
    for batch, own in zip(batches, _owners(batches), strict=True):
        rows = model.pack_batch(batch)
        for text, (start, end) in zip(own, pairwise(rows.bounds), strict=True):
            window = tokenizer.decode(rows.ids[start:end])
            found[text] = max(found.get(text, ""), window, key=len)
    return found


def describe(answer) -> str:
    """The labels with their scores."""
    ranked = [answer] if isinstance(answer, dict) else answer
    return ", ".join(f"{a['label']} {a['score']:.4f}" for a in ranked)


def _kind(model):
    """The problem type; by default one output is a regression and several are classes."""
    return task_loss.problem_type(model.config, np.zeros(1, int))


def _classes(model, logits):
    kind, logits = _kind(model), model.ops.place.fetch(logits)
    if kind == REGRESSION:
        return logits[:, 0]
    return logits.argmax(axis=1) if kind == SINGLE else logits > 0


def _correlation(mine, reference):
    return glue_metrics.regression(mine, reference)["pearson"]
