"""Reads CoNLL files: a word and its tag a line, in columns, and a blank line between sentences.

    CoNLL-2002, 2003    the word, any columns, its tag; -DOCSTART- separates documents
    numbered            the number of the word in its sentence comes first, as in CoNLL-U and
                        GermEval 2014; ranges such as 1-2, which repeat the words that follow, and
                        empty nodes such as 8.1 are skipped
    comments            lines with # before a sentence's first word

Tabs separate the columns where a line has some, else spaces. In a numbered file the tag is in the
first column whose values are all O, B-X, I-X …: GermEval's outer one. Without such a column it is
the fourth of CoNLL-U's ten, the universal part of speech, else the last.
A file is numbered if its first sentence of two words or more is; then all others must be.
Sources: Tjong Kim Sang and De Meulder, "CoNLL-2003", 2003; universaldependencies.org/format.html;
Benikova et al., "GermEval 2014", 2014.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minidistil.data.sources import lines

DOCUMENT = "-DOCSTART-"
NO_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # a range of words, an empty node
ENTITY = re.compile(r"O|[BIESLU](-.*)?")
CONLL_U, UPOS = 10, 3  # the number of columns, and the one of the part of speech


class TaggedRow(NamedTuple):
    """A non-blank line, split into columns."""

    place: str
    columns: list


def column_sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """path  ->  iterator of (words, tags), two lists of str. Raises ValueError with the line."""
    blocks = list(_blocks(path))
    if _numbered(blocks):
        found = [_words_of(block) for block in blocks]
        tag = _tag_column([row for block in found for row in block])
        word = 1
    else:
        tags = {row.columns[-1] for block in blocks for row in block if not _marked(row)}
        width = next((len(r.columns) for b in blocks for r in b if not _marked(r)), 0)
        found = [_without_comments(block, width, tags) for block in blocks]
        word, tag = 0, -1
    for block in filter(None, found):
        for place, columns in block:
            if len(columns) < 2 + word or not columns[word]:
                shown = " ".join(columns)[:60]
                raise ValueError(f"{place}: {shown!r} has no tag behind the word")
        yield [row.columns[word] for row in block], [row.columns[tag] for row in block]


def _blocks(path):
    """The file's sentences as lists of rows, separated by blank lines and document marks."""
    block = []
    for place, line in lines(path):
        parts = line.split("\t") if "\t" in line else line.split()
        columns = [part.strip() for part in parts]
        if line.startswith(("#begin document", "#end document")):
            raise ValueError(
                f"{place}: a file of CoNLL-2012 is not read; write a word and its tag a line"
            )
        if not line.strip() or columns[0] == DOCUMENT:
            if block:
                yield block
            block = []
        else:
            block.append(TaggedRow(place, columns))
    if block:
        yield block


def _marked(row):
    return row.columns[0].startswith("#")


# ------------------------------------------------------- numbered words


def _numbered(blocks):
    """Whether the first sentence of two words or more, else the first, numbers its words."""
    sentences = [[row for row in block if not _marked(row)] for block in blocks]
    sentences = [rows for rows in sentences if rows]
    chosen = next((rows for rows in sentences if len(rows) > 1), sentences[0] if sentences else [])
    return bool(chosen) and len(chosen[0].columns) > 2 and _miscounted(chosen) is None


def _miscounted(rows):
    """The first row without its word's number, and that number; None if there is none."""
    due = 1
    for row in rows:
        if not NO_WORD.fullmatch(row.columns[0]):
            if row.columns[0] != str(due):
                return row, due
            due += 1
    return None


def _words_of(block):
    """The rows of a numbered sentence that are words. Raises ValueError for a wrong number."""
    rows = [row for row in block if not _marked(row)]
    if (wrong := _miscounted(rows)) is not None:
        row, due = wrong
        raise ValueError(
            f"{row.place}: {row.columns[0][:30]!r} where the number {due} of the word is due, as "
            f"the first sentences have; number all or none"
        )
    return [row for row in rows if not NO_WORD.fullmatch(row.columns[0])]


def _tag_column(rows):
    """The number of the column of tags. Raises ValueError for rows of unequal width."""
    width = len(rows[0].columns) if rows else 0
    for place, columns in rows:
        if len(columns) != width:
            raise ValueError(
                f"{place}: {len(columns)} columns where the first word has {width}; every word "
                f"must have the same columns"
            )
    for column in range(2, width):
        if all(ENTITY.fullmatch(row.columns[column]) for row in rows):
            return column
    return UPOS if width == CONLL_U else -1


# ------------------------------------------------------- comments


def _without_comments(block, width, tags):
    """The rows of a sentence without the comments before it.

    A line that begins with # is a word if it has as many columns as the others and ends in a tag:
    an entity tag, or any text if the file's tags are not entity tags.
    """
    entities = all(map(ENTITY.fullmatch, tags))
    for start, row in enumerate(block):
        tag = row.columns[-1]
        is_tag = not entities or ENTITY.fullmatch(tag)
        if not _marked(row) or (len(row.columns) == width and is_tag):
            return block[start:]
    return []
