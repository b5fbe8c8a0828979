"""Measures a model of any task on held-out data, and its agreement with another model."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from minidistil import tasks
from minidistil.data.windows import mean_of
from minidistil.io.console import progress
from minidistil.io.ranks import world


def measure(
    model, batches: Iterable[dict], reference: np.ndarray | None = None
) -> dict[str, float]:
    """Held-out batches  ->  {"loss": …, …} over all their answers, for the model's task.

    reference: the `answers` of another model; then also "agreement", the share of equal answers
    (regression: Pearson's correlation). The `measure` of each task's command module documents its
    other metrics.
    """
    return tasks.command_of(model.task).measure(model, batches, reference)


def answers(model, batches: Iterable[dict]) -> np.ndarray:
    """The model's answers in one array: words (M,) or classes (B,), 0/1 (B,K), numbers (B,)."""
    return tasks.command_of(model.task).answers(model, batches)


# ------------------------------------------------------- shared by the tasks' measures


def results(model, batches: Iterable[dict], select: Callable | None = None) -> Iterator[tuple]:
    """Yields (batch, its rows, network.Result), computed for inference.

    select: (rows, batch) -> (M,) rows to compute vocabulary logits for.
    """
    for batch in progress(batches, "measuring", unit=" batches"):
        rows = model.pack_batch(batch)
        yield batch, rows, model.infer(rows, select and select(rows, batch))


def of_texts(model, batches: Iterable[dict]) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits (B,K) of all texts, each the mean over its windows, and their labels (B,) or None.

    batches: with `owners`, see `LabelledText`; without, each row is a text of its own. Raises
    ValueError where there is no text.
    """
    ranks, batches = world(), list(batches)
    mine = results(model, ranks.share(batches))
    logits = ranks.in_order([model.ops.place.fetch(result.logits) for _, _, result in mine])
    labels = [batch.get("labels") for batch in batches]
    ends = np.cumsum([0, *map(len, logits)])
    numbers = (np.arange(*span) for span in pairwise(ends))
    owners = [b.get("owners", own) for b, own in zip(batches, numbers, strict=True)]
    if not ends[-1]:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    _, first, text = np.unique(np.concatenate(owners), return_index=True, return_inverse=True)
    labels = None if labels[0] is None else np.concatenate(labels)[first]
    return mean_of(np.concatenate(logits), text), labels


def measured(
    model, pairs: Iterable[tuple], loss: Callable, answer: Callable, scores: Callable,
    reference: np.ndarray | None = None, agreement: Callable | None = None,
) -> dict[str, float]:  # fmt: skip
    """(logits, labels or None) of this rank's batches  ->  {"loss": …, **scores, "agreement": …} of
    all ranks' batches, on all ranks.

    loss(logits, labels) is a batch's mean, averaged here over all M logits; scores(answers, labels)
    is called once. agreement(answers, reference): by default the share of equal answers.
    """
    losses, sizes, mine, labels = [], [], [], []
    for logits, right in pairs:
        if right is not None:
            losses.append(model.ops.place.number(loss(logits, right)))
        sizes.append(len(logits))
        mine.append(answer(logits))
        labels.append(right)
    losses, sizes, mine, labels = map(world().in_order, (losses, sizes, mine, labels))
    if not sizes:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    mine, found = np.concatenate(mine), {}
    if labels[0] is not None:
        found = {"loss": float(np.average(losses, weights=sizes))}
        found |= scores(mine, np.concatenate(labels))
    if reference is not None:
        found["agreement"] = (agreement or _share)(mine, reference)
    return found


def answered(answer: Callable, pairs: Iterable[tuple]) -> np.ndarray:
    """(logits, labels) of this rank's batches  ->  answer(logits) of all ranks' batches, joined."""
    return np.concatenate(world().in_order([answer(logits) for logits, _ in pairs]))


def argmax(model) -> Callable:
    """A function from logits (M,K) to the argmax of each row, (M,), for `measured`."""
    return lambda logits: model.ops.place.fetch(logits).argmax(axis=1)


def cross_entropy(model) -> Callable:
    """A function from logits (M,K) and labels (M,) to their loss, for `measured`."""
    return lambda logits, labels: model.ops.cross_entropy.forward(logits, labels=labels)[0]


def accuracy(mine: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """{"accuracy": the share of answers that equal the labels}, for `measured`."""
    return {"accuracy": _share(mine, labels)}


def _share(mine, reference):
    return float(np.mean(mine == reference))
