"""The places of texts at which two models answer: words to fill in or to predict, or classes.

    fill-mask               each word in turn, with [MASK] in its place; or the masks of the text
    text-generation         each token, from those before it, and what follows the text
    token-classification    each token
    text-classification     each text as a whole

Each is a row of logits of student and teacher, with the right answer where the text or a label
gives one.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidistil import losses
from minidistil.data.tokenizer import Tokenizer
from minidistil.data.two_tokenizers import INPUTS, THEIRS, as_teacher_reads, reads_twice
from minidistil.io.console import progress
from minidistil.io.limits import short
from minidistil.model.task_loss import IGNORED, next_words

MASKED, CAUSAL, TAGS, CLASSES = (
    "fill-mask", "text-generation", "token-classification", "text-classification"
)  # fmt: skip
TASKS = (MASKED, CAUSAL, TAGS, CLASSES)
LONGEST = 64  # tokens of a text whose words are places
NOT_ASKED = -1  # in place of the label of a row that is no place
MOST = 256  # places of a page: 3 MB
AT_ONCE = 16  # copies of a text, each with another word hidden
TEXTS, EACH = 5, 10  # held-out texts of a run's page, and places of each


class PlacesAsked(NamedTuple):
    """A batch and its M places."""

    batch: dict
    rows: np.ndarray | None  # (M,) the rows of the batch that answer; None: a sequence each
    labels: np.ndarray  # (M,) right answers, IGNORED where there is none
    places: list  # (text, piece) of each; piece None: the text as a whole


class Place(NamedTuple):
    """What both models answer at one place; their last hidden states' distance there."""

    text: int
    piece: int | None
    label: int
    z_s: np.ndarray  # (V,) or (K,) float64
    z_t: np.ndarray
    cos: float | None  # 1 − cos(h_s, h_t); of a whole text the mean over its tokens
    cos_slope: float | None  # the norm of its gradient with respect to h_s


def of_texts(
    task: str, tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[int] | None = None
) -> tuple[list[list[str]], list[PlacesAsked]]:
    """The pieces of each text, and its places. labels: the class of each text.

    Raises ValueError for a text that is too long or has no place, and for too many places.
    """
    pieces, asked = [], []
    for number, text in enumerate(texts):
        _check_length(task, tokenizer, text)
        batch = tokenizer([text])
        ids = batch["input_ids"][0]
        pieces.append([shown(tokenizer, i) for i in ids])
        if task == CLASSES:
            label = IGNORED if labels is None else labels[number]
            asked.append(PlacesAsked(batch, None, np.array([label]), [(number, None)]))
            continue
        columns = np.flatnonzero(~np.isin(ids, tokenizer.special_ids))
        if task == MASKED and (masks := np.flatnonzero(ids == tokenizer.mask_id)).size:
            columns = masks
        if task == CAUSAL:
            columns = np.arange(1, len(ids) + 1)
            pieces[-1].append("…")
        if not len(columns):
            raise ValueError(f"{short(text)} has no word to ask for; give another text")
        asked += _places(task, tokenizer, number, batch, columns)
    if (count := sum(len(one.places) for one in asked)) > MOST:
        raise ValueError(f"{count} places are too many for a page of {MOST}; give fewer texts")
    return pieces, asked


def _check_length(task, tokenizer, text):
    """Raise ValueError for a text that would be cut, or that has more places than a page shows."""
    (whole,) = tokenizer.whole([text])
    most = tokenizer.max_length if task == CLASSES else min(LONGEST, tokenizer.max_length)
    if len(whole.ids) > most:
        raise ValueError(
            f"{short(text)} has {len(whole.ids)} tokens, and the page has room for {most}; give a "
            f"shorter text"
        )


def _places(task, tokenizer, number, batch, columns):
    ids, places = batch["input_ids"][0], [(number, int(c)) for c in columns]
    if task == CAUSAL:  # row c − 1 predicts the token of column c
        return [PlacesAsked(batch, columns - 1, np.append(ids[1:], IGNORED), places)]
    none = np.full(len(columns), IGNORED)
    if task == TAGS or (ids[columns] == tokenizer.mask_id).all():
        return [PlacesAsked(batch, columns, none, places)]
    found = []
    for start in range(0, len(columns), AT_ONCE):
        some = columns[start : start + AT_ONCE]
        copies = {name: np.repeat(x, len(some), axis=0) for name, x in batch.items()}
        copies["input_ids"][np.arange(len(some)), some] = tokenizer.mask_id
        rows = np.arange(len(some)) * len(ids) + some
        found.append(PlacesAsked(copies, rows, ids[some], places[start : start + AT_ONCE]))
    return found


def of_batches(
    model: Any, tokenizer: Tokenizer, batches: Iterable[dict]
) -> tuple[list[list[str]], list[PlacesAsked]]:
    """The pieces and the places of the first held-out texts of a run. model: its student."""
    pieces, asked = [], []
    for batch in batches:
        rows = model.pack_batch(batch)
        labels = _labels(model, tokenizer, batch, rows)
        for n in range(len(rows.bounds) - 1):
            if len(pieces) == TEXTS:
                return pieces, asked
            own = np.flatnonzero(rows.sequence == n)
            words = [shown(tokenizer, i) for i in rows.ids[own]]
            if model.task == CLASSES:
                picked, wanted, places = None, labels[n : n + 1], [(len(pieces), None)]
            else:
                picked = np.flatnonzero(labels[own] != NOT_ASKED)[:EACH]
                if not len(picked):
                    continue
                wanted, ahead = labels[own][picked], int(model.task == CAUSAL)
                places = [(len(pieces), int(c) + ahead) for c in picked]
                if model.task == MASKED:
                    for c, label in zip(picked, wanted, strict=True):
                        words[c] = shown(tokenizer, label)
                if ahead:
                    words = words[: picked[-1] + 2]
            asked.append(PlacesAsked(_sequence(batch, n), picked, wanted, places))
            pieces.append(words)
    return pieces, asked


def _labels(model, tokenizer, batch, rows):
    """The label of each text, or of each row, NOT_ASKED where that is no place; IGNORED for a
    place without a label."""
    given = batch.get("labels")
    if model.task == CLASSES:
        return np.full(len(rows.bounds) - 1, IGNORED) if given is None else given
    if given is None:
        return np.where(np.isin(rows.ids, tokenizer.special_ids), NOT_ASKED, IGNORED)
    labels = rows.gather(given)
    if model.task == CAUSAL:
        labels = next_words(labels, rows, empty=True)
    return np.where(labels == IGNORED, NOT_ASKED, labels)


def _sequence(batch, n):
    """The inputs of sequence n of a batch, as a batch of one."""
    names = [name for name in batch if name.removeprefix(THEIRS) in INPUTS]
    return {name: batch[name][n : n + 1] for name in names}


def compared(student: Any, teacher: Any, asked: Sequence[PlacesAsked]) -> list[Place]:
    """The answers of both models at all places."""
    found = []
    for one in progress(asked, "comparing", unit=" texts"):
        z_s, h_s = _answers(student, one.batch, one.rows)
        z_t, h_t = _answers(teacher, as_teacher_reads(one.batch), one.rows)
        for m, (text, piece) in enumerate(one.places):
            cos = _cosine(h_s, h_t, m, one, reads_twice(one.batch))
            found.append(Place(text, piece, int(one.labels[m]), z_s[m], z_t[m], *cos))
    return found


def _answers(model, batch, rows):
    """Logits (M,·) at the places, and the last hidden states of all rows (N,C) or None."""
    of_words = model.task in (MASKED, CAUSAL)
    packed = model.pack_batch(batch)
    result = model.infer(packed, rows) if of_words else model.infer(packed)
    fetch = model.ops.place.fetch
    logits = np.asarray(fetch(result.logits), np.float64)
    hidden = np.asarray(fetch(result.hidden[-1]), np.float64) if result.hidden else None
    return (logits if of_words or rows is None else logits[rows]), hidden


def _cosine(h_s, h_t, m, one, own_words):
    """The cosine loss at place m and the norm of its gradient; None where states do not compare."""
    if h_s is None or h_t is None or own_words or h_s.shape != h_t.shape:
        return None, None
    rows = slice(None) if one.rows is None else one.rows[m : m + 1]
    loss, dh = losses.cosine(h_s[rows], h_t[rows])
    return loss, float(np.linalg.norm(dh))


def read_twice(batch: dict, theirs: dict) -> dict:
    """A batch with the teacher's own tokens beside the student's."""
    return batch | {THEIRS + name: x for name, x in theirs.items()}


def naming(model: Any, tokenizer: Tokenizer) -> Callable[[int], str]:
    """A function from a column of the logits to what it means: a word or the name of a class."""
    if model.task in (MASKED, CAUSAL):
        return lambda v: shown(tokenizer, v)
    names = model.config.id2label
    return lambda k: str(names[k]) if names else f"LABEL_{k}"


def shown(tokenizer: Tokenizer, number: int) -> str:
    """A token as text in which white space is visible; as in the vocabulary where it is no text,
    such as a part of a character."""
    word = tokenizer.decode([number], skip_special_tokens=False)
    word = word.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    if word and word.isprintable() and "\N{REPLACEMENT CHARACTER}" not in word:
        return word
    return tokenizer.id_to_token(int(number)) or f"#{number}"
