"""Questions about a text whose answers are spans of it, and long texts in overlapping windows.

    file      SQuAD's JSON, version 1.1, or 2.0 where a question may have no answer
    window    [CLS] question [SEP] a part of the text [SEP]: neighbours share `stride` pieces, so
              that an answer cut in two by one window is whole in the next
    labels    columns of the answer's first and last piece; [CLS], column 0, where the window does
              not hold the answer
Source: Rajpurkar et al., "SQuAD", 2016, and "Know what you don't know", 2018; windows and labels
as in Devlin et al., "BERT", 2018, §4.2, and its run_squad.py.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil import limits
from minidistil.data.memory import InMemory, padded
from minidistil.data.sources import half
from minidistil.files import MissingFileError

LONGEST_QUESTION, LONGEST_ANSWER = 64, 30  # pieces; a longer question is cut
TOGETHER = 256  # questions tokenised at once


class Question(NamedTuple):
    """answers: (text, first character) of each that is right; () where the text has none."""

    article: int
    id: str
    question: str
    context: str
    answers: tuple


class Window(NamedTuple):
    """One question with a part of its text, T pieces."""

    number: int  # of the question
    ids: np.ndarray  # (T,)
    types: np.ndarray  # (T,)
    offsets: np.ndarray  # (T,2) characters of the text
    inside: np.ndarray  # (T,) bool: pieces of the text, not of the question


def squad(path, answered=True):
    """path of a SQuAD file  ->  list of Question. Raises ValueError with what is wrong with it.

    answered: whether answers are read; without them each Question has ().
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"no data at {path}; give a file in SQuAD's format")
    try:
        read = limits.read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; it is not in SQuAD's format") from None
    try:
        articles = read["data"]
        found = [
            Question(
                number, str(qa["id"]), qa["question"].strip(), part["context"],
                _answers(path, qa, part["context"]) if answered else (),
            )
            for number, article in enumerate(articles)
            for part in article["paragraphs"]
            for qa in part["qas"]
        ]  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not in SQuAD's format ({type(error).__name__}: {reason}); it is an object "
            '{"data": [{"paragraphs": [{"context": …, "qas": [{"id", "question", "answers"}]}]}]}'
        ) from None
    if not found:
        raise ValueError(f"{path} holds no question; a data file needs at least one")
    for one in found:
        if half(one.question) or half(one.context):
            raise ValueError(f"{path}: question {one.id} holds half of a surrogate pair; remove it")
    return found


def _answers(path, qa, context):
    if qa.get("is_impossible"):
        return ()
    answers = tuple((a["text"], a["answer_start"]) for a in qa.get("answers", ()))
    for text, start in answers:
        if context[start : start + len(text)] != text:
            raise ValueError(
                f"{path}: the answer {text!r} of question {qa['id']} is not at character {start}, "
                f"where the text reads {context[start : start + len(text)]!r}"
            )
    if not answers:
        raise ValueError(
            f'{path}: question {qa["id"]} has no answers; say "is_impossible": true where the '
            f"text has none"
        )
    return answers


def windows(pairs, tokenizer, max_length, stride):
    """(question, text) pairs  ->  list of Window, those of a question one after another."""
    found = []
    for start in range(0, len(pairs), TOGETHER):
        questions, contexts = zip(*pairs[start : start + TOGETHER], strict=True)
        questions = [_shortened(question, tokenizer) for question in questions]
        parts = tokenizer.windows(questions, contexts, max_length, stride)
        for number, encodings in enumerate(parts, start):
            for e in encodings:
                inside = np.array([kind == 1 for kind in e.sequence_ids])
                found.append(Window(number, np.array(e.ids, np.int64),
                                    np.array(e.type_ids, np.int64), np.array(e.offsets),
                                    inside))  # fmt: skip
    return found


def _shortened(question, tokenizer):
    offsets = tokenizer.backend.encode(question, add_special_tokens=False).offsets
    long = len(offsets) > LONGEST_QUESTION
    return question[: offsets[LONGEST_QUESTION - 1][1]] if long else question


def columns_of(answer, window):
    """(text, first character)  ->  the columns of its first and last piece; 0, 0 where the window
    does not hold all of it."""
    text, first = answer
    held = np.flatnonzero(window.inside)
    starts, ends = window.offsets[held].T
    if not len(held) or starts[0] > first or ends[-1] < first + len(text):
        return 0, 0
    touched = held[(ends > first) & (starts < first + len(text))]
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)


class Questions(InMemory):
    """Questions to train on, others to evaluate on, in windows of max_length pieces.

    A batch has start_positions and end_positions (B,); one to evaluate on also "asked", its
    (Question, Window) pairs, from which answers are read off, and "longest", the most pieces that
    an answer has.
    """

    def __init__(self, questions, tokenizer, *, max_length, stride, tokens, evaluation=(), seed=0,
                 longest=LONGEST_ANSWER):  # fmt: skip
        if longest < 1:
            raise ValueError(f"an answer has 1 piece or more, not {longest}")
        every, self.longest = [*questions, *evaluation], longest
        if not every:
            raise ValueError("there are no questions; give at least one")
        self.tokenizer, self.every = tokenizer, every
        self.windows = windows([q[2:4] for q in every], tokenizer, max_length, stride)
        numbers = np.array([w.number for w in self.windows])
        super().__init__(
            [len(w.ids) for w in self.windows], int((numbers < len(questions)).sum()),
            tokens=tokens, seed=seed,
        )  # fmt: skip

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these windows; a step changes nothing here."""
        chosen = {i: self.windows[i] for i in indices}
        batch = padded(
            indices, {i: w.ids for i, w in chosen.items()},
            {i: w.types for i, w in chosen.items()}, self.tokenizer,
        )  # fmt: skip
        asked = [(self.every[w.number].answers, w) for w in chosen.values()]
        columns = [columns_of(right[0], w) if right else (0, 0) for right, w in asked]
        start, end = np.array(columns, np.int64).T.copy()
        return {**batch, "start_positions": start, "end_positions": end}

    def evaluation_batches(self):
        """The windows of the evaluation questions: the same list at every call."""
        found = []
        for numbers in self.evaluation_numbers():
            asked = [(self.every[self.windows[i].number], self.windows[i]) for i in numbers]
            found.append({**self.collate(numbers), "asked": asked, "longest": self.longest})
        return found
