"""How good a model is on held-out data, and how much like its teacher, whatever its task."""

import numpy as np

from minidistil import tasks
from minidistil.data.windows import mean_of
from minidistil.io.console import progress


def measure(model, batches, reference=None):
    """Held-out batches  ->  {"loss": …, …} over all their answers, for the model's task.

    reference: what `answers` gave for another model; then also "agreement", the share where both
    models give the same answer (regression: Pearson's correlation of the two). The other metrics
    are named by the `measure` of each module of `minidistil.tasks`.
    """
    return tasks.of(model.task).measure(model, batches, reference)


def answers(model, batches):
    """The model's answers in one array: words (M,) or classes (B,), 0/1 (B,K), numbers (B,)."""
    return tasks.of(model.task).answers(model, batches)


# ------------------------------------------------------- what the tasks' measures share


def results(model, batches, select=None):
    """Each batch with its rows and network.Result, in evaluation.

    select: (rows, batch) -> (M,) rows that get logits, where a vocabulary is projected onto.
    """
    for batch in progress(batches, "measuring", unit=" batches"):
        rows = model.pack_batch(batch)
        yield batch, rows, model.infer(rows, select and select(rows, batch))


def of_texts(model, batches):
    """Logits (B,K) of all texts, each the mean of its windows', and their labels (B,) or None.

    batches: with `owners`, see `LabelledText`; without, each row is a text of its own. Raises
    ValueError where there is no text.
    """
    logits, owners, labels, rows = [], [], [], 0
    for batch, _, result in results(model, batches):
        logits.append(model.ops.place.fetch(result.logits))
        owners.append(batch.get("owners", np.arange(rows, rows + len(logits[-1]))))
        labels.append(batch.get("labels"))
        rows += len(logits[-1])
    if not rows:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    _, first, text = np.unique(np.concatenate(owners), return_index=True, return_inverse=True)
    labels = None if labels[0] is None else np.concatenate(labels)[first]
    return mean_of(np.concatenate(logits), text), labels


def measured(model, pairs, loss, answer, scores, reference=None, agreement=None):
    """(logits, labels or None) of each batch  ->  {"loss": …, **scores, "agreement": …}.

    loss(logits, labels) is a batch's mean, averaged here over all M logits; scores(answers, labels)
    is called once. agreement(answers, reference): by default the share that is equal.
    """
    losses, sizes, mine, labels = [], [], [], []
    for logits, right in pairs:
        if right is not None:
            losses.append(model.ops.place.number(loss(logits, right)))
        sizes.append(len(logits))
        mine.append(answer(logits))
        labels.append(right)
    if not sizes:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    mine, found = np.concatenate(mine), {}
    if labels[0] is not None:
        found = {"loss": float(np.average(losses, weights=sizes))}
        found |= scores(mine, np.concatenate(labels))
    if reference is not None:
        found["agreement"] = (agreement or _share)(mine, reference)
    return found


def likeliest(model):
    """A function from logits (M,K) to the number of the largest in each row, (M,)."""
    return lambda logits: model.ops.place.fetch(logits).argmax(axis=1)


def cross_entropy(model):
    """A function from logits (M,K) and labels (M,) to their loss, for `measured`."""
    return lambda logits, labels: model.ops.cross_entropy.forward(logits, labels=labels)[0]


def accuracy(mine, labels):
    """{"accuracy": the share of answers that are the labels}, for `measured`."""
    return {"accuracy": _share(mine, labels)}


def _share(mine, reference):
    return float(np.mean(mine == reference))
