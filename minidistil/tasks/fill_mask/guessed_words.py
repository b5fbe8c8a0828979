"""Words of held-out texts that are masked for a report, and what each model puts there.

A place is a masked word in a sentence that fits on a line, and each model reads the sentence alone,
so that `minidistil fill-mask` repeats a guess. Of the first MOST places, those whose word the
teacher predicts come first; the students' guesses play no part in the choice. Where the texts have
no such sentences, the tokens around a word take their place.
"""

import re
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import collate
from minidistil.io.console import TEXT_LENGTH
from minidistil.model.task_loss import IGNORED
from minidistil.tasks.measuring import argmax

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
    """[{"text", "right", **{name: guess}}] of at most GUESSES places in held-out masked batches."""
    places = _places(models["teacher"], tokenizer, batches)
    if not places:
        return []
    ends = (tokenizer.cls_id, tokenizer.sep_id)
    batch = collate(
        [np.insert(ends, 1, place.ids) for place in places],
        tokenizer.pad_id, tokenizer.token_types,
    )  # fmt: skip
    columns, found = np.array([1 + place.column for place in places]), []
    for name, model in models.items():
        rows = model.pack_batch(batch)
        words = argmax(model)(model.infer(rows, rows.bounds[:-1] + columns).logits)
        found.append((name, [tokenizer.decode([word]).strip() for word in words]))
    shown = [
        {"text": place.text, "right": place.right} | {name: words[n] for name, words in found}
        for n, place in enumerate(places)
    ]
    return sorted(shown, key=lambda row: row["teacher"] != row["right"])[:GUESSES]


def _places(teacher, tokenizer, batches):
    """One masked word of each text: those in sentences, then others, in the order of the texts."""
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
    rest = (place for text, place in others.items() if text not in sentences)
    return [*sentences.values(), *rest][:MOST]


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
