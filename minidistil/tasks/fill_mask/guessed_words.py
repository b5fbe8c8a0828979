"""Words of held-out texts that are masked for a report, and what each model puts there.

A place is a masked word in a sentence that fits on a line, and each model reads the sentence alone,
so that `minidistil fill-mask` repeats a guess. Of the first MOST places those are shown where the
teacher's guess has the highest probability, right or wrong; the students' guesses play no part in
the choice. Where the texts have too few such sentences, the tokens around a word take their place.
"""

import re
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import collate
from minidistil.io.console import TEXT_LENGTH
from minidistil.model.task_loss import IGNORED

GUESSES = 5  # places that a report shows
MOST = 256  # places that they are chosen from, each of another text
LETTERS = 4  # of a word at least
SHORTEST = 30  # characters of a sentence; at most TEXT_LENGTH
ENDS = (".", "!", "?")  # of sentences
AROUND = 8  # tokens on each side of a word whose sentence is not shown


class MaskedWord(NamedTuple):
    """A place: a masked word and the text around it."""

    ids: np.ndarray  # (T,) with the mask, without the special tokens around a text
    column: int  # of the mask
    right: str
    text: str


def guesses(models, tokenizer, batches) -> list[dict]:
    """[{"text", "right", **{name: guess}, "probabilities": {name: that of the guess}}] of at most
    GUESSES places in held-out masked batches."""
    places = _places(models["teacher"], tokenizer, batches)
    if not places:
        return []
    ends = (tokenizer.cls_id, tokenizer.sep_id)
    batch = collate(
        [np.insert(ends, 1, place.ids) for place in places],
        tokenizer.pad_id, tokenizer.token_types,
    )  # fmt: skip
    columns = np.array([1 + place.column for place in places])
    found = {name: _best(model, batch, columns) for name, model in models.items()}
    order = np.argsort(-found["teacher"][1], kind="stable")[:GUESSES]
    return [
        {
            "text": places[n].text, "right": places[n].right,
            **{name: tokenizer.decode([words[n]]).strip() for name, (words, _) in found.items()},
            "probabilities": {name: float(p[n]) for name, (_, p) in found.items()},
        }
        for n in order
    ]  # fmt: skip


def _best(model, batch, columns):
    """The most probable word in a column of each sequence (M,), and its probability (M,)."""
    rows = model.pack_batch(batch)
    logits = model.infer(rows, rows.bounds[:-1] + columns).logits
    probabilities = model.ops.place.fetch(model.ops.softmax.forward(logits)[0])
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def _places(teacher, tokenizer, batches):
    """One masked word of each text: of those in sentences MOST, of others where they are few."""
    sentences, others = {}, {}  # number of the text: its place
    for number, batch in enumerate(batches):
        rows = teacher.pack_batch(batch)
        labels = rows.gather(batch["labels"])
        original = np.where(labels == IGNORED, rows.ids, labels)
        for row in np.flatnonzero((labels != IGNORED) & (rows.ids == tokenizer.mask_id)):
            text = number, rows.sequence[row]
            first, end = rows.bounds[text[1] :][:2]
            ids, column = original[first + 1 : end - 1], row - first - 1
            if text in sentences or not _is_word(ids, column, tokenizer):
                continue
            if place := _in_sentence(ids, column, tokenizer):
                sentences[text] = place
            elif text not in others:
                others[text] = _in_window(ids, column, tokenizer)
        if len(sentences) >= MOST:
            break
    if len(sentences) < GUESSES:
        sentences = others | sentences
    return list(sentences.values())[:MOST]


def _is_word(ids, column, tokenizer):
    """Whether a token is a word of LETTERS or more, and no piece of one or punctuation."""
    word = tokenizer.decode([ids[column]]).strip()
    near = tokenizer.decode(ids[max(column - 1, 0) : column + 2])
    return len(word) >= LETTERS and word.isalpha() and word in re.findall(r"\w+", near)


def _in_sentence(ids, column, tokenizer):
    """The place in its sentence, between two ENDS; None where that does not fit on a line."""
    marks = [tokenizer.token_to_id(mark) for mark in ENDS]
    ends = np.flatnonzero([i in marks for i in ids])
    before = np.searchsorted(ends, column)
    if not 0 < before < len(ends):
        return None
    place = _place(ids, column, slice(ends[before - 1] + 1, ends[before] + 1), tokenizer)
    return place if SHORTEST <= len(place.text) <= TEXT_LENGTH else None


def _in_window(ids, column, tokenizer):
    """The place with AROUND tokens on each side."""
    start, stop = max(0, column - AROUND), column + 1 + AROUND
    while start and start < column and tokenizer.decode(ids[start : start + 1]).startswith("##"):
        start += 1  # the rest of a word
    place = _place(ids, column, slice(start, stop), tokenizer)
    parts = ("…" if start else "", place.text, "…" if stop < len(ids) else "")
    return place._replace(text=" ".join(filter(None, parts)))


def _place(ids, column, part, tokenizer):
    """The place in a part of a text."""
    column, shown = column - part.start, ids[part].copy()
    right, shown[column] = tokenizer.decode([shown[column]]).strip(), tokenizer.mask_id
    sides = (tokenizer.decode(side).strip() for side in (shown[:column], shown[column + 1 :]))
    return MaskedWord(shown, column, right, "____".join(f" {side} " for side in sides).strip())
