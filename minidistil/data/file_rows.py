"""Lines and rows of text files, each with its place: (place, content).

A faulty line gives a ValueError as its content, so that a caller may skip it; `strict` raises the
first one. The error's text does not hold the place.
"""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from minidistil.io import limits

csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is shorter than a book; rows are bounded
SEPARATORS = ",;\t"  # of a .csv; the comma of a decimal number makes ; usual in Europe


def strict(found: Iterable[tuple]) -> Iterator[tuple]:
    """The same pairs (place, content). Raises the first ValueError, with its place."""
    for place, x in found:
        if isinstance(x, ValueError):
            raise ValueError(f"{place}: {x}") from None
        yield place, x


def kind_of(path: str | Path) -> str:
    """The extension of a file's name without .gz, in lower case."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def lines_of(path: Path) -> Iterator[tuple]:
    """Every line of a file, without its line end. Each is decoded alone, to locate errors."""
    limits.check_file(path)
    packed, number, size = path.suffix.lower() == ".gz", 0, 0
    whole = path.stat().st_size
    with (gzip.open if packed else open)(path, "rb") as file:
        try:
            if wrong := limits.binary(file.peek(limits.HEAD)):
                yield f"{path} line 1", ValueError(f"the file is no text but {wrong}")
                return
            while line := file.readline(limits.LINE + 1):
                number, size = number + 1, size + len(line)
                yield f"{path} line {number}", decoded(line, number)
                while len(line) > limits.LINE and not line.endswith(b"\n"):  # the rest of it
                    line = file.readline(limits.LINE + 1)
                    size += len(line)
                if packed:
                    limits.check_growth(size, whole)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            wrong = ValueError(f"not a whole gzip file after this line: {error}; copy it again")
            yield f"{path} line {number}", wrong
        except ValueError as error:
            yield f"{path} line {number}", error


def decoded(line: bytes, number: int) -> str | ValueError:
    """The bytes of line `number`, from 1  ->  its text, or a ValueError."""
    try:
        limits.check_line(len(line))
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        return ValueError(
            f"byte 0x{error.object[error.start]:02x} at column {error.start + 1} is not UTF-8; "
            f"convert the file to UTF-8"
        )
    except ValueError as error:
        return error


def object_of(line: str) -> dict | ValueError:
    """A line  ->  its JSON object, or a ValueError."""
    try:
        record = limits.json_of(line)
    except ValueError as error:
        return ValueError(f"not JSON: {error}")
    if not isinstance(record, dict):
        return ValueError(
            f'each line must be a JSON object, not a {type(record).__name__}; write {{"text": ...}}'
        )
    return record


def objects(path: Path) -> Iterator[tuple]:
    """The objects of a .jsonl file."""
    for place, line in lines_of(path):
        if isinstance(line, ValueError):
            yield place, line
        elif line.strip():
            yield place, object_of(line)


def table(path: Path, headless: bool) -> Iterator[tuple]:
    """The rows of a .csv or .tsv file as {column: text}; headless: columns are numbers."""
    if kind_of(path) == ".csv":
        rows = _quoted_rows(path, "," if headless else _separator(path))
    else:
        rows = _tabbed_rows(path)
    names = None
    for place, row in rows:
        if isinstance(row, ValueError):
            yield place, row
            continue
        if names is None:
            names = range(len(row)) if headless else [name.strip() for name in row]
            if not headless:
                if wrong := _wrong_header(names):
                    yield place, ValueError(wrong)
                    return
                continue
        if len(row) != len(names):
            row = ValueError(
                f"{len(row)} columns where the first row has {len(names)}; every row must have the "
                f"same columns"
            )
            yield place, row
        else:
            yield place, dict(zip(names, row, strict=True))


def _separator(path):
    """The separator of a .csv: the one that splits its header into the most columns."""
    first = next((line for _, line in lines_of(path) if line), "")
    if isinstance(first, ValueError):
        return ","
    return max(SEPARATORS, key=lambda mark: len(_split(first.replace("\r", " "), mark)))


def _split(line, mark):
    return next(csv.reader([line], delimiter=mark), [])


def _wrong_header(names):
    """The reason why these cannot be the names of columns, or ""."""
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        return f"two columns are called {limits.short(twice)}; rename one of them"
    mark = next((mark for mark in ",;" if len(names) == 1 and mark in names[0]), None)
    if mark:
        return (
            f"the header {limits.short(names[0])} is one column of a .tsv, which tabs separate; "
            f"if {mark!r} separates, name the file .csv"
        )
    return ""


def _tabbed_rows(path):
    for place, line in lines_of(path):
        if isinstance(line, ValueError):
            yield place, line
        elif line.strip():
            yield place, line.split("\t")


def _quoted_rows(path, separator):
    """Rows of a .csv; a row of several lines has the place of its first."""
    bad, size = [], 0

    def good():
        nonlocal size
        for place, line in lines_of(path):
            if isinstance(line, ValueError):
                bad.append((place, line))
                line = ""
            size += len(line)
            if size > limits.LINE:
                raise csv.Error(
                    f"a row has more than {limits.LINE:,} characters; close the quote that is open"
                )
            yield line + "\n"

    reader, row = csv.reader(good(), delimiter=separator), []
    while row is not None:
        place, size = f"{path} line {reader.line_num + 1}", 0
        try:
            row = next(reader, None)
        except csv.Error as error:
            row = ValueError(f"not csv: {error}")
        yield from bad
        bad.clear()
        if row:
            yield place, row
        if size > limits.LINE:  # csv's reader is still inside the row
            return
