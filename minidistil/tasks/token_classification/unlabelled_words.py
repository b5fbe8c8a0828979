"""Reads sentences without tags, for distillation from a tagger.

lines     a word a line, a blank line after each sentence
.jsonl    {"tokens": [...]} a line, or "words"
"""

from pathlib import Path

from minidistil.data.sources import kind_of, lines, records
from minidistil.tasks.token_classification.data import TAG_KEYS, WORD_KEYS


def untagged_sentences(path: Path) -> list[list[str]] | None:
    """path  ->  a list of sentences, each a list of str; None if the file holds a tag."""
    return _objects(path) if kind_of(path) == ".jsonl" else _lines(path)


def _lines(path):
    found = [[]]
    for _, line in lines(path):
        parts = line.split()
        if len(parts) > 1:
            return None
        if parts:
            found[-1].append(parts[0])
        else:
            found.append([])
    return [words for words in found if words]


def _objects(path):
    found = []
    for place, record in records(path, ()):
        if any(name in record for name in TAG_KEYS):
            return None
        words = next((record[name] for name in WORD_KEYS if name in record), None)
        if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
            raise ValueError(f'{place}: a sentence without tags is {{"tokens": ["EU", …]}}')
        found.append(words)
    return found
