"""Questions with answers that are spans of a text, in overlapping windows: SQuAD's format.

    file      SQuAD's JSON, version 1.1, or 2.0 where a question may have no answer
    window    [CLS] question [SEP] a part of the text [SEP]; neighbours share `stride` pieces, so
              that an answer cut by the end of one window is whole in the next
    labels    columns of the answer's first and last piece; [CLS], column 0, if the window does not
              hold the answer
Source: Rajpurkar et al., "SQuAD", 2016, and "Know what you don't know", 2018; windows and labels
as in Devlin et al., "BERT", 2018, §4.2, and its run_squad.py.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.in_memory import InMemory, padded
from minidistil.data.sources import half
from minidistil.data.tokenizer import Tokenizer
from minidistil.io import limits
from minidistil.io.counts import part_of
from minidistil.io.files import MissingFileError

LONGEST_QUESTION, LONGEST_ANSWER = 64, 30  # pieces; a longer question is cut
CHUNK = 256  # questions tokenised at once
# Letters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese
# syllables, Chinese characters. A tokenizer's "words" are then whole phrases, or single letters.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)


class Question(NamedTuple):
    """A question; answers: (text, first character) of each correct one, () if there is none."""

    article: int
    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


class Window(NamedTuple):
    """A question with a part of its text, T pieces."""

    number: int  # of the question
    ids: np.ndarray  # (T,)
    types: np.ndarray  # (T,)
    offsets: np.ndarray  # (T,2) characters of the text
    inside: np.ndarray  # (T,) bool: pieces of the text, not of the question
    words: np.ndarray  # (T,2) characters of the word that a piece belongs to


class Reading(NamedTuple):
    """How answers are decoded from logits: the most pieces, and whether they are whole words."""

    longest: int = LONGEST_ANSWER
    whole_words: bool = True


READING = Reading()


def squad(path: str | Path, answered: bool | None = True) -> list[Question]:
    """path of a SQuAD file  ->  list of Question. Raises MissingFileError or ValueError.

    answered: whether answers are read, and required; False: each Question has (). None: read them
    if the file has any.
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
        if answered is None:
            answered = _any_answered(articles)
        found = [
            _question(f"{path}: question {qa['id']}", article, qa, part["context"], answered)
            for article, content in enumerate(articles)
            for part in content["paragraphs"]
            for qa in part["qas"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not in SQuAD's format ({type(error).__name__}: {reason}); it is an object "
            '{"data": [{"paragraphs": [{"context": …, "qas": [{"id", "question", "answers"}]}]}]}'
        ) from None
    if not found:
        raise ValueError(f"{path} holds no question; a data file needs at least one")
    return found


def _any_answered(articles):
    """Whether any question has `answers` or `is_impossible`."""
    return any(
        {"answers", "is_impossible"} & set(qa)
        for content in articles
        for part in content["paragraphs"]
        for qa in part["qas"]
    )


def _question(place, article, qa, context, answered):
    for name, text in (("question", qa["question"]), ("context", context)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"{place}: its {name} must be a text that is not empty, not {limits.short(text)}"
            )
        if half(text):
            raise ValueError(f"{place}: its {name} holds half of a surrogate pair; remove it")
    answers = _answers(place, qa, context) if answered else ()
    return Question(article, str(qa["id"]), qa["question"].strip(), context, answers)


def _answers(place, qa, context):
    impossible = qa.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise ValueError(f"{place}: is_impossible must be true or false, not {impossible!r}")
    answers = tuple((a["text"], a["answer_start"]) for a in qa.get("answers", ()))
    for text, start in answers:
        _check_answer(place, text, start, context)
    if impossible and answers:
        raise ValueError(
            f"{place}: is_impossible is true, but the answer {answers[0][0]!r} is given; remove one"
        )
    if not impossible and not answers:
        raise ValueError(
            f'{place} has no answers; say "is_impossible": true where the text has none'
        )
    return answers


def _check_answer(place, text, start, context):
    """Raise ValueError if the text does not hold the answer at its place."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            f"{place}: an answer must be a text that is not empty, not {text!r}; where the text "
            f'has none, say "is_impossible": true without answers'
        )
    if type(start) is not int or not 0 <= start < len(context):
        raise ValueError(
            f"{place}: answer_start must be the place of the answer's first character, 0 to "
            f"{len(context) - 1}, not {start!r}"
        )
    if (there := context[start : start + len(text)]) != text:
        raise ValueError(
            f"{place}: the answer {text!r} is not at character {start}, where the text reads "
            f"{there!r}"
        )


def windows(
    pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, max_length: int, stride: int,
    called: Callable[[int], str] = "question {}".format,
) -> list[Window]:  # fmt: skip
    """(question, text) pairs  ->  list of Window, those of a question one after another.

    called: a pair's number -> its name in errors. Raises ValueError for a text without pieces.
    """
    found, long = [], 0
    for start in range(0, len(pairs), CHUNK):
        given, contexts = zip(*pairs[start : start + CHUNK], strict=True)
        questions = [_shortened(question, tokenizer) for question in given]
        long += sum(a != b for a, b in zip(questions, given, strict=True))
        parts = tokenizer.windows(questions, contexts, max_length, stride)
        for number, encodings in enumerate(parts, start):
            mine = _windows(number, encodings, contexts[number - start])
            if not any((w.offsets[w.inside, 0] < w.offsets[w.inside, 1]).any() for w in mine):
                raise ValueError(
                    f"{called(number)}: the tokenizer finds no piece in the text, so that there "
                    f"is no answer in it; remove it"
                )
            found += mine
    if long:
        warnings.warn(
            f"{part_of(long, len(pairs), 'question', 'is')} longer than {LONGEST_QUESTION} pieces; "
            f"the end is not read", stacklevel=2,
        )  # fmt: skip
    return found


def _windows(number, encodings, context):
    """The windows of one question; a word's characters are those of its pieces in all windows."""
    insides = [np.array([kind == 1 for kind in e.sequence_ids]) for e in encodings]
    words = {}
    for e, inside in zip(encodings, insides, strict=True):
        for t in np.flatnonzero(inside):
            (first, last), word = e.offsets[t], e.word_ids[t]
            start, end = words.get(word, (first, last))
            words[word] = min(start, first), max(end, last)
    for word, (start, end) in words.items():
        if word is None or UNSPACED.search(context, start, end):
            words[word] = None
    return [
        Window(number, np.array(e.ids, np.int64), np.array(e.type_ids, np.int64),
               np.array(e.offsets), inside,
               np.array([words.get(word) or place if held else place for word, place, held in
                         zip(e.word_ids, e.offsets, inside, strict=True)]))
        for e, inside in zip(encodings, insides, strict=True)
    ]  # fmt: skip


def _shortened(question, tokenizer):
    offsets = tokenizer.backend.encode(question, add_special_tokens=False).offsets
    long = len(offsets) > LONGEST_QUESTION
    return question[: offsets[LONGEST_QUESTION - 1][1]] if long else question


def columns_of(answer: tuple[str, int], window: Window) -> tuple[int, int]:
    """(text, first character)  ->  the columns of its first and last piece; 0, 0 if the window does
    not hold all of it."""
    text, first = answer
    held = np.flatnonzero(window.inside)
    starts, ends = window.offsets[held].T
    if not len(held) or starts[0] > first or ends[-1] < first + len(text):
        return 0, 0
    touched = held[(ends > first) & (starts < first + len(text))]
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)


class Questions(InMemory):
    """Questions to train on, others to evaluate on, in windows of max_length pieces.

    A batch has start_positions and end_positions (B,); an evaluation batch also "asked", its
    (Question, Window) pairs, and "reading", how answers are decoded.
    """

    def __init__(
        self, questions: Sequence[Question], tokenizer: Tokenizer, batching: Batching, *,
        max_length: int, stride: int, evaluation: Sequence[Question] = (),
        reading: Reading = READING,
    ):  # fmt: skip
        if reading.longest < 1:
            raise ValueError(f"an answer has 1 piece or more, not {reading.longest}")
        every, self.reading = [*questions, *evaluation], reading
        if not every:
            raise ValueError("there are no questions; give at least one")
        self.tokenizer, self.every = tokenizer, every
        self.windows = windows(
            [q[2:4] for q in every], tokenizer, max_length, stride,
            lambda number: f"question {every[number].id}",
        )  # fmt: skip
        self._warn_of_cut_answers(max_length, stride)
        numbers = np.array([w.number for w in self.windows])
        lengths = [len(w.ids) for w in self.windows]
        super().__init__(lengths, int((numbers < len(questions)).sum()), batching)

    def _warn_of_cut_answers(self, max_length, stride):
        """Warn how many answers are whole in no window."""
        whole = {w.number for w in self.windows if any(self._columns(w))}
        there = {number for number, question in enumerate(self.every) if question.answers}
        if lost := len(there - whole):
            warnings.warn(
                f"{part_of(lost, len(there), 'answer', 'is')} whole in no window of {max_length} "
                f"pieces that share {stride}, and counted as missing", stacklevel=3,
            )  # fmt: skip

    def _columns(self, window):
        """The columns of the question's first answer in the window."""
        answers = self.every[window.number].answers
        return columns_of(answers[0], window) if answers else (0, 0)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these windows, the same at every step."""
        chosen = {i: self.windows[i] for i in indices}
        batch = padded(
            indices, {i: w.ids for i, w in chosen.items()},
            {i: w.types for i, w in chosen.items()}, self.tokenizer,
        )  # fmt: skip
        columns = [self._columns(w) for w in chosen.values()]
        start, end = np.array(columns, np.int64).T.copy()
        return {**batch, "start_positions": start, "end_positions": end}

    def evaluation_batches(self) -> list[dict]:
        """The batches of the evaluation questions' windows, the same at every call."""
        found = []
        for numbers in self.evaluation_numbers():
            asked = [(self.every[self.windows[i].number], self.windows[i]) for i in numbers]
            found.append({**self.collate(numbers), "asked": asked, "reading": self.reading})
        return found
