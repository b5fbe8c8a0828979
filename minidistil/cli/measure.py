"""How good a model is on held-out text."""

import numpy as np

from minidistil.model import network
from minidistil.model.objective import IGNORED


def masked_lm(model, batches, reference=None):
    """Held-out batches  ->  {"loss", "accuracy"} over all their masked tokens.

    loss: mean −ln p of the right word, in nats; accuracy: the share of masked tokens whose
    likeliest word is the right one. reference: what `top_words` gave for another model; then also
    "agreement", the share where both models find the same word likeliest.
    """
    loss, right, agree, count = 0.0, 0, 0, 0
    for number, (logits, labels) in enumerate(_answers(model, batches)):
        mean, _ = model.ops.cross_entropy.forward(logits, labels=labels)
        top = logits.argmax(axis=1)
        loss += float(mean) * len(labels)
        right += int((top == labels).sum())
        count += len(labels)
        if reference is not None:
            agree += int((top == reference[number]).sum())
    if not count:
        raise ValueError("there is nothing to evaluate on; hold out some documents")
    found = {"loss": loss / count, "accuracy": right / count}
    return found | ({} if reference is None else {"agreement": agree / count})


def top_words(model, batches):
    """The likeliest word at each masked token: a list of one array (M,) a batch."""
    return [logits.argmax(axis=1) for logits, _ in _answers(model, batches)]


def _answers(model, batches):
    """Each batch's logits (M,V) and labels (M,) at its masked tokens; no other logit is computed."""
    for batch in batches:
        types = batch.get("token_type_ids")
        rows = model.pack(batch["input_ids"], batch["attention_mask"], types)
        labels = rows.gather(batch["labels"])
        select = np.flatnonzero(labels != IGNORED)
        result, _ = network.forward(
            model.canonical(), rows, model.config, model.task, None, model.ops, select=select
        )
        yield result.logits, labels[select]
