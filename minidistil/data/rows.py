"""Lines and rows of files, each with its place: (place, what stands there).

What is wrong with a line stands in its place as the ValueError that it earns, so that a reader may
pass over it; `strict` raises the first instead. The place is not in the error's own words.
"""

import csv
import gzip
import json
import zlib
from pathlib import Path

csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is shorter than a book in one field


def strict(found):
    """What comes before the first error, which is raised."""
    for place, x in found:
        if isinstance(x, ValueError):
            raise ValueError(f"{place}: {x}") from None
        yield place, x


def kind_of(path):
    """What a file's name ends in, before .gz."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def lines_of(path):
    """Every line of a file, without its line end, decoded by itself to know where that fails."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    number = 0
    with opened(path, "rb") as file:
        try:
            for number, line in enumerate(file, 1):
                yield f"{path} line {number}", decoded(line, number)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            wrong = ValueError(f"not a whole gzip file after this line: {error}; copy it again")
            yield f"{path} line {number}", wrong


def decoded(line, number):
    """The bytes of line `number`, from 1  ->  its text, or the ValueError that it earns."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        return ValueError(
            f"byte 0x{error.object[error.start]:02x} at column {error.start + 1} is not UTF-8; "
            f"convert the file to UTF-8"
        )


def object_of(line):
    """A line  ->  its JSON object, or the ValueError that it earns."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return ValueError(f"not JSON: {error}")
    if not isinstance(record, dict):
        return ValueError(
            f'each line must be a JSON object, not a {type(record).__name__}; write {{"text": ...}}'
        )
    return record


def objects(path):
    """The objects of a .jsonl file."""
    for place, line in lines_of(path):
        if isinstance(line, ValueError):
            yield place, line
        elif line.strip():
            yield place, object_of(line)


def table(path, headless):
    """The rows of a .csv or .tsv file as {column: text}; headless: columns are numbers."""
    names, rows = None, _quoted_rows(path) if kind_of(path) == ".csv" else _tabbed_rows(path)
    for place, row in rows:
        if isinstance(row, ValueError):
            yield place, row
            continue
        if names is None:
            names = range(len(row)) if headless else [name.strip() for name in row]
            if not headless:
                continue
        if len(row) != len(names):
            row = ValueError(
                f"{len(row)} columns where the first row has {len(names)}; every row must have the "
                f"same columns"
            )
            yield place, row
        else:
            yield place, dict(zip(names, row, strict=True))


def _tabbed_rows(path):
    for place, line in lines_of(path):
        if isinstance(line, ValueError):
            yield place, line
        elif line.strip():
            yield place, line.split("\t")


def _quoted_rows(path):
    """A row is named by its first line: an open quote takes many with it."""
    bad = []

    def good():
        for place, line in lines_of(path):
            if isinstance(line, ValueError):
                bad.append((place, line))
                line = ""
            yield line + "\n"

    reader, row = csv.reader(good()), []
    while row is not None:
        place = f"{path} line {reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            row = ValueError(f"not csv: {error}")
        yield from bad
        bad.clear()
        if row:
            yield place, row
