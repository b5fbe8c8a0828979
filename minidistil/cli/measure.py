"""How good a model is on held-out text, and how much like its teacher."""

import numpy as np

from minidistil.model import network, objective
from minidistil.model.objective import IGNORED
from minidistil.train import metrics


def measure(model, batches, reference=None):
    """Held-out batches  ->  {"loss": …, …} over all their answers, for the model's task.

    reference: what `answers` gave for another model; then also "agreement", the share where both
    models give the same answer (regression: Pearson's correlation of the two).

        fill-mask            loss (nats a masked token), accuracy (the right word is the likeliest)
        text-classification  loss; accuracy, macro_f1, matthews; accuracy, macro_f1, micro_f1 for
                             several labels; mse, pearson, spearman for a number
    """
    losses, sizes, mine, labels = [], [], [], []
    for logits, right in _logits(model, batches):
        losses.append(_loss(model, logits, right))
        sizes.append(len(logits))
        mine.append(_answer(model, logits))
        labels.append(right)
    if not sizes:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    mine, found = np.concatenate(mine), {}
    if labels[0] is not None:
        found = {"loss": float(np.average(losses, weights=sizes))}
        found |= _scores(model, mine, np.concatenate(labels))
    if reference is not None:
        found["agreement"] = _agreement(model, mine, reference)
    return found


def answers(model, batches):
    """The model's answers in one array: words (M,) or classes (B,), 0/1 (B,K), numbers (B,)."""
    return np.concatenate([_answer(model, logits) for logits, _ in _logits(model, batches)])


def _logits(model, batches):
    """Each batch's logits (M,V) and labels (M,) at its masked tokens, no others being computed;
    of a classifier (B,K) and its labels, or None where the batch has none."""
    for batch in batches:
        types = batch.get("token_type_ids")
        rows = model.pack(batch["input_ids"], batch["attention_mask"], types)
        labels, select = batch.get("labels"), None
        if model.task == "fill-mask":
            labels = rows.gather(labels)
            select = np.flatnonzero(labels != IGNORED)
            labels = labels[select]
        result, _ = network.forward(
            model.canonical(),
            rows,
            model.config,
            model.task,
            None,
            model.ops,
            select=select,
            keep=False,
        )
        yield result.logits, labels


def _kind(model, labels=None):
    """ "words", or the classifier's problem type."""
    if model.task == "fill-mask":
        return "words"
    return objective.problem_type(model.config, np.zeros(1, int) if labels is None else labels)


def _loss(model, logits, labels):
    """The mean loss of one batch, None without labels."""
    if labels is None:
        return None
    if model.task == "fill-mask":
        loss, _ = model.ops.cross_entropy.forward(logits, labels=labels)
    else:
        loss, _ = objective.classification(logits, labels, model.config, model.ops)
    return model.ops.place.number(loss)


def _answer(model, logits):
    kind, logits = _kind(model), model.ops.place.fetch(logits)
    if kind == "regression":
        return logits[:, 0]
    if kind == "multi_label_classification":
        return logits > 0
    return logits.argmax(axis=1)


def _scores(model, mine, labels):
    kind = _kind(model, labels)
    if kind == "words":
        return {"accuracy": float(np.mean(mine == labels))}
    if kind == "regression":
        return metrics.regression(mine, labels.ravel())
    if kind == "multi_label_classification":
        return metrics.multi_label(mine, labels)
    return metrics.classification(mine, labels, model.config.num_labels)


def _agreement(model, mine, reference):
    if _kind(model) == "regression":
        return metrics.regression(mine, reference)["pearson"]
    return float(np.mean(mine == reference))
