"""Command hooks of token classification: named entities, parts of speech.

minidistil finetune --task token-classification --data train.conll --eval-data dev.conll
"""

import warnings
from pathlib import Path

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.label_values import warn_of_left_out
from minidistil.io.console import progress
from minidistil.io.limits import few
from minidistil.io.ranks import world
from minidistil.model.task_loss import IGNORED
from minidistil.tasks.labelled_data import (
    WithoutLabels,
    held_out_of,
    known_names,
    relabelled,
    training_and_evaluation,
    warn_of_renamed,
)
from minidistil.tasks.measuring import accuracy, answered, argmax, cross_entropy, measured, results
from minidistil.tasks.token_classification.data import (
    TaggedText,
    has_every_tag,
    tag_names,
    tagged_sentences,
)
from minidistil.tasks.token_classification.metrics import entity_scores, scheme_of
from minidistil.tasks.token_classification.unlabelled_words import untagged_sentences


def add_options(parser) -> None:
    """No options: --data is a CoNLL file (a word and its tag a line), or .jsonl."""


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model with a head for the data's tags, and TaggedText."""
    training, evaluation = training_and_evaluation(args, _read)
    names = tag_names(tag for _, tags in training + evaluation for tag in tags)

    def labels_of(before):
        known = before.id2label or ()
        chosen = known if set(names) <= set(known) else names
        if chosen is names:
            warn_of_renamed(known, names)
        return len(chosen), None, chosen

    model = relabelled(args, folder, "token-classification", labels_of)
    return model, _data(args, tokenizer, model, training, evaluation)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of the sentences with their tags."""
    return _data(args, tokenizer, model, [], held_out_of(args, _read)).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """TaggedText; without tags, or with --no-labels, the teacher gives the only targets."""
    training, evaluation = training_and_evaluation(args, _read_words)
    tagged = [any(tags for _, tags in part) for part in (training, evaluation)]
    anything = known_names(teacher.config)[:1]
    training, evaluation = (
        [(words, tags or [*anything] * len(words)) for words, tags in part]
        for part in (training, evaluation)
    )
    data = _data(args, tokenizer, teacher, training, evaluation)
    return data if args.labels and all(tagged) else WithoutLabels(data, tagged[1])


def _read_words(args, path):
    """As `_read`, with None for the tags of a file that has none."""
    plain = untagged_sentences(Path(path)) if Path(path).is_file() else None
    return _read(args, path) if not plain else [(words, None) for words in plain]


def _read(args, path):
    found = list(progress(tagged_sentences(Path(path)), "reading", unit=" sentences"))
    if not args.skip_unlabelled:
        return found
    kept = [sentence for sentence in found if has_every_tag(sentence[1])]
    warn_of_left_out(len(found) - len(kept), len(found))
    return kept


def _data(args, tokenizer, model, training, evaluation):
    names = known_names(model.config)
    if scheme_of(names) is None and any(n.isdecimal() or n.startswith("B-") for n in names):
        warnings.warn(
            f"the tags {few(names, 5)} are of no known scheme of entities (IOB, IOE, IOBES, "
            f"BILOU): the accuracy of words is measured, F1 of entities is not", stacklevel=2,
        )  # fmt: skip
    return TaggedText(
        training, tokenizer, Batching(args.batch_tokens, args.seed), names=names,
        evaluation=evaluation, max_length=args.max_length, stride=args.stride,
    )  # fmt: skip


# ------------------------------------------------------- measuring


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss and accuracy of words; precision, recall, f1 of entities, if the tags have a scheme."""
    names = model.config.to_dict()["id2label"]
    scheme = scheme_of(names.values())
    order, ends = _sentences(batches)

    def scores(mine, labels):
        found = accuracy(mine, labels)
        if scheme is None:
            return found
        sentences = (
            [[names[str(k)] for k in part] for part in np.split(x[order], ends)]
            for x in (mine, labels)
        )
        return found | entity_scores(*sentences, scheme)

    return measured(
        model, _labelled(model, batches), cross_entropy(model), argmax(model), scores, reference
    )


def _sentences(batches):
    """The order that sorts the labelled words of all batches by sentence and place, across
    windows, and the places in it where sentences end."""
    rows = [np.nonzero(batch["labels"] != IGNORED) for batch in batches]
    sentence = [batch["owners"][row] for batch, (row, _) in zip(batches, rows, strict=True)]
    word = [batch["words"][at] for batch, at in zip(batches, rows, strict=True)]
    if not batches:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    sentence, word = np.concatenate(sentence), np.concatenate(word)
    order = np.lexsort((word, sentence))
    return order, np.flatnonzero(np.diff(sentence[order])) + 1


def answers(model, batches) -> np.ndarray:
    """The top-1 tag of every word, (M,)."""
    return answered(argmax(model), _labelled(model, batches))


def describe(answer) -> str:
    """The entities of a text with their scores."""
    kinds = [a.get("entity_group", a.get("entity")) for a in answer]
    found = zip(kinds, answer, strict=True)
    return ", ".join(f"{kind} {a['word']} {a['score']:.4f}" for kind, a in found) or "-"


def _labelled(model, batches):
    """This rank's batches' logits (M,K) and labels (M,), or None, at the words' first pieces."""
    place = model.ops.place
    for batch, rows, result in results(model, world().share(batches)):
        labels = rows.gather(batch["labels"])
        words = labels != IGNORED
        right = None if "unlabelled" in batch else labels[words]
        yield place.send(place.fetch(result.logits)[words]), right
