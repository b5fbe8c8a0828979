"""Words with tags: named entities, parts of speech, and what else every word of a text has.

    CoNLL     a line is a word and, after a tab or spaces, its tag (between them any columns); a
              blank line ends the sentence: EU<tab>B-ORG
    .jsonl    {"tokens": [...], "tags": [...]} a line, or the names "words", "ner_tags", "labels"

A tag is one of the BIO scheme: B-X begins an entity of kind X, I-X goes on with it, O is outside.
A word of several pieces has its label on the first and none (−100) on the others.
Source: Tjong Kim Sang and De Meulder, "CoNLL-2003", 2003; Devlin et al., "BERT", 2018, §5.3.
"""

import numpy as np

from minidistil.data.masking import IGNORED
from minidistil.data.memory import InMemory, padded
from minidistil.data.sources import kind_of, lines, records
from minidistil.files import MissingFileError

OUTSIDE = "O"
WORDS, TAGS = ("tokens", "words"), ("tags", "ner_tags", "labels")


def tagged_sentences(path):
    """path  ->  iterator of (words, tags), two lists of str. Raises ValueError with the line."""
    if not path.exists():
        raise MissingFileError(f"no data at {path}; give a file of words with tags")
    found = False
    for sentence in _objects(path) if kind_of(path) == ".jsonl" else _columns(path):
        found = True
        yield sentence
    if not found:
        raise ValueError(f"{path} holds no sentence; a data file needs at least one")


def _columns(path):
    words, tags = [], []
    for place, line in lines(path):
        parts = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            if words:
                yield words, tags
            words, tags = [], []
        elif len(parts) < 2:
            raise ValueError(f"{place}: {line.strip()!r} has no tag behind the word")
        elif parts[0] != "-DOCSTART-":
            words.append(parts[0].strip())
            tags.append(parts[-1].strip())
    if words:
        yield words, tags


def _objects(path):
    for place, record in records(path, ()):
        words, tags = (
            next((record[name] for name in names if name in record), None)
            for names in (WORDS, TAGS)
        )
        if not _texts(words) or not _texts(tags) or len(words) != len(tags):
            raise ValueError(
                f"{place}: a sentence is "
                f'{{"tokens": ["EU", …], "tags": ["B-ORG", …]}}, as many tags as tokens'
            )
        yield words, tags


def _texts(value):
    return isinstance(value, list) and value and all(isinstance(x, str) for x in value)


def tag_names(tags):
    """The different tags, O first, then by kind: B-X before I-X."""
    tags = set(tags)
    rest = sorted(tags - {OUTSIDE}, key=lambda tag: tag.partition("-")[::-1])
    return (OUTSIDE, *rest) if OUTSIDE in tags else tuple(rest)


class TaggedText(InMemory):
    """Sentences (words, tags) to train on, others to evaluate on; labels (B,T) int64.

    names: the tags in the order of their numbers. Raises ValueError for a tag that is none of
    them. A sentence longer than max_length loses its end, tags included.
    """

    def __init__(
        self, sentences, tokenizer, *, names, tokens, evaluation=(), seed=0, max_length=None
    ):
        every = [*sentences, *evaluation]
        if not every:
            raise ValueError("there are no sentences; give at least one")
        numbers = {name: k for k, name in enumerate(names)}
        for i, (_, tags) in enumerate(every):
            if unknown := set(tags) - set(numbers):
                raise ValueError(
                    f"sentence {i} has the tag {min(unknown)!r}, which is none of "
                    f"{', '.join(names)}; remove it or give all names"
                )
        self.tokenizer, self.names = tokenizer, tuple(names)
        encodings = tokenizer.words([words for words, _ in every], max_length)
        self.sequences = [np.array(e.ids, np.int64) for e in encodings]
        self.types = [np.array(e.type_ids, np.int64) for e in encodings]
        self.labels = [
            first_pieces(e.word_ids, [numbers[tag] for tag in tags])
            for e, (_, tags) in zip(encodings, every, strict=True)
        ]
        super().__init__(
            [len(ids) for ids in self.sequences], len(sentences), tokens=tokens, seed=seed
        )

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these sentences with their labels; a step changes nothing here."""
        batch = padded(indices, self.sequences, self.types, self.tokenizer)
        labels = np.full(batch["input_ids"].shape, IGNORED, np.int64)
        for row, i in zip(labels, indices, strict=True):
            row[: len(self.labels[i])] = self.labels[i]
        return {**batch, "labels": labels}


def first_pieces(word_ids, labels):
    """Each piece's word or None (T,), each word's label  ->  labels (T,), IGNORED but at the first
    piece of a word."""
    out, before = np.full(len(word_ids), IGNORED, np.int64), None
    for t, word in enumerate(word_ids):
        if word is not None and word != before:
            out[t] = labels[word]
        before = word
    return out
