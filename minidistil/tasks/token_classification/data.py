"""Sentences with a tag for each word: named entities, parts of speech.

    columns   a line is a word and its tag, a blank line ends the sentence; see `conll`
    .jsonl    {"tokens": [...], "tags": [...]} a line, or the names "words", "ner_tags", "labels"

Under the last two names tags may be numbers, as in transformers' data sets: numbers of the model's
tags, or names themselves. In the BIO scheme B-X begins an entity of kind X, I-X continues it, and O
is outside; see `metrics` for other schemes. "", "-", "_" and null are missing tags. A word of
several pieces has its label on the first and none (−100) on the others.
Source: Tjong Kim Sang and De Meulder, "CoNLL-2003", 2003; Devlin et al., "BERT", 2018, §5.3.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from minidistil.data.batches import Batching, collate
from minidistil.data.in_memory import InMemory, padded
from minidistil.data.label_values import class_numbers
from minidistil.data.masking import IGNORED
from minidistil.data.sources import half, kind_of, records
from minidistil.data.tokenizer import Tokenizer
from minidistil.data.windows import answering, count_cut, parts_of
from minidistil.io import limits
from minidistil.io.counts import part_of
from minidistil.io.files import MissingFileError
from minidistil.tasks.token_classification.conll import column_sentences

OUTSIDE = "O"
WORD_KEYS, TAG_KEYS = ("tokens", "words"), ("tags", "ner_tags", "labels")
NUMBERED = TAG_KEYS[1:]  # keys whose tags may be numbers
NO_TAG = ("", "-", "_")


def tagged_sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """path  ->  iterator of (words, tags), two lists of str, "" where a word has no tag.

    Raises MissingFileError, or ValueError with the line.
    """
    if not path.exists():
        raise MissingFileError(f"no data at {path}; give a file of words with tags")
    found = False
    for sentence in _objects(path) if kind_of(path) == ".jsonl" else column_sentences(path):
        found = True
        yield sentence
    if not found:
        raise ValueError(f"{path} holds no sentence; a data file needs at least one")


def _objects(path):
    for place, record in records(path, ()):
        key = next((name for name in TAG_KEYS if name in record), None)
        words = next((record[name] for name in WORD_KEYS if name in record), None)
        tags = record.get(key)
        if not _texts(words) or not isinstance(tags, list) or len(words) != len(tags):
            raise ValueError(
                f"{place}: a sentence is "
                f'{{"tokens": ["EU", …], "tags": ["B-ORG", …]}}, as many tags as tokens'
            )
        tags = [_tag(place, key, tag) for tag in tags]
        if any(map(half, words + tags)):
            raise ValueError(f"{place}: a word or a tag holds half of a surrogate pair; remove it")
        if words:  # an empty sentence counts as a blank line
            yield words, tags


def _tag(place, key, tag):
    if tag is None:
        return ""
    if isinstance(tag, str):
        return tag.strip()
    if type(tag) is not int or tag < 0 or key not in NUMBERED:
        raise ValueError(
            f"{place}: a sentence is words with their tags, texts such as B-ORG, in "
            f"{' and '.join(NUMBERED)} also numbers from 0 on, not {limits.short(tag)}"
        )
    return str(tag)


def _texts(value):
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def has_every_tag(tags: Iterable[str]) -> bool:
    """Whether each of a sentence's words has a tag."""
    return not any(tag in NO_TAG for tag in tags)


def tag_names(tags: Iterable[str]) -> tuple[str, ...]:
    """The different tags, O first, then by kind: B-X before I-X; numbers by value."""
    tags = set(tags)
    if all(tag.isdecimal() for tag in tags):
        return tuple(sorted(tags, key=int))
    rest = sorted(tags - {OUTSIDE}, key=lambda tag: tag.partition("-")[::-1])
    return (OUTSIDE, *rest) if OUTSIDE in tags else tuple(rest)


class TaggedText(InMemory):
    """Sentences (words, tags) to train on, others to evaluate on; labels (B,T) int64.

    names: the tags in the order of their numbers. stride: a sentence longer than max_length becomes
    several windows that share so many pieces; a word has its label in the window in which it is
    most central. None: it is cut, tags included. An evaluation batch has `owners` (B,), the
    sentence of each row, and `words` (B,T), the number of each piece's word where there is a label.
    Raises ValueError for a tag that is not among the names, and for a word without a tag.
    """

    def __init__(
        self, sentences: Iterable[tuple], tokenizer: Tokenizer, batching: Batching, *,
        names: Sequence[str], evaluation: Iterable[tuple] = (), max_length: int | None = None,
        stride: int | None = None,
    ):  # fmt: skip
        sentences = [*sentences]
        every = [*sentences, *evaluation]
        if not every:
            raise ValueError("there are no sentences; give at least one")
        _check_tags(every)
        numbers = class_numbers({tag for _, tags in every for tag in tags}, names)
        for i, (_, tags) in enumerate(every):
            if unknown := set(tags) - set(numbers):
                raise ValueError(
                    f"sentence {i} has the tag {limits.short(min(unknown))}, which is none of "
                    f"{limits.few(names)}; remove it or give all names"
                )
        self.tokenizer, self.names = tokenizer, tuple(names)
        encodings = tokenizer.words([words for words, _ in every])
        parts = parts_of(encodings, tokenizer, max_length, stride)
        count_cut(parts, tokenizer, max_length, "sentence")
        self.sequences, self.types, self.owners = parts.ids, parts.types, parts.owners
        self.labels, self.words = [], []
        for number, windows in groupby(range(len(parts.ids)), self.owners.__getitem__):
            places, word_ids = [parts.places[i] for i in windows], encodings[number].word_ids
            tags = [numbers[tag] for tag in every[number][1]]
            first, words = first_pieces(word_ids, tags), first_pieces(word_ids, range(len(tags)))
            for at, mine in zip(places, answering(places, word_ids), strict=True):
                self.labels.append(np.where(mine, first[at], IGNORED))
                self.words.append(words[at])
        lengths = [len(ids) for ids in self.sequences]
        super().__init__(lengths, int((self.owners < len(sentences)).sum()), batching)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these sentences with their labels, the same at every step."""
        batch = padded(indices, self.sequences, self.types, self.tokenizer)
        return {**batch, "labels": self._padded(indices, self.labels)}

    def evaluation_batches(self) -> list[dict[str, np.ndarray]]:
        """The evaluation batches, with `owners` and `words`."""
        return [
            {**self.collate(numbers), "owners": self.owners[numbers],
             "words": self._padded(numbers, self.words)}
            for numbers in self.evaluation_numbers()
        ]  # fmt: skip

    def _padded(self, indices, arrays):
        """One array (T,) of each of these rows  ->  (B,T), IGNORED where a row is shorter."""
        return collate([arrays[i] for i in indices], IGNORED)["input_ids"]


def _check_tags(sentences):
    none = [i for i, (_, tags) in enumerate(sentences) if not has_every_tag(tags)]
    if none:
        words, tags = sentences[none[0]]
        k = next(k for k, tag in enumerate(tags) if tag in NO_TAG)
        some = part_of(len(none), len(sentences), "sentence", "has")
        raise ValueError(
            f"sentence {none[0]} has no tag but {tags[k]!r} at {limits.short(words[k])}; {some} "
            f"such words: leave these out with --skip-unlabelled"
        )


def first_pieces(word_ids: Sequence[int | None], labels: Sequence[int]) -> np.ndarray:
    """Each piece's word or None (T,), each word's label  ->  labels (T,): the label at a word's
    first piece, IGNORED elsewhere."""
    out, before = np.full(len(word_ids), IGNORED, np.int64), None
    for t, word in enumerate(word_ids):
        if word is not None and word != before:
            out[t] = labels[word]
        before = word
    return out
