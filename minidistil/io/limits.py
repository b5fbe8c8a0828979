"""The bounds of what is read from files: far beyond real data, and named where one is passed.

A file comes from anywhere: a pipe that never ends, a few kilobytes that unpack to a terabyte, a
header that asks for more memory than there is. Every reader asks here before it allocates.
"""

import json
import math
import re
import stat
from itertools import accumulate
from pathlib import Path

LINE = 2**27  # bytes of a line; text8, 100 MB of Wikipedia, is one
DOCUMENT = 2**29  # bytes of one JSON document; SQuAD has 2**25
SETTINGS = 2**26  # bytes of a JSON file of a model's or a run's folder
DEPTH = 100  # lists and objects inside one another
GROWTH = 200  # how many times its own size a packed file may unpack to; text reaches 10
UNPACKED = 2**26  # bytes that any packed file may unpack to
ARRAYS = 2**33  # bytes of the arrays that are read from one file
HEAD = 4096  # bytes by which a file is judged
NULS = 16  # NUL bytes that the head of a text may hold; UTF-16 has 2,048

OTHERS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"),
          (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))  # fmt: skip
BINARIES = {  # how a file begins that is no text -> what it is
    b"\x1f\x8b": "packed by gzip: let its name end in .gz",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh91AY&SY": "packed by bzip2: unpack it",
    b"\xfd7zXZ\x00": "packed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"\xff\xfe": "in UTF-16: convert it to UTF-8",
    b"\xfe\xff": "in UTF-16: convert it to UTF-8",
    b"%PDF-": "a PDF: extract its text",
    b"PAR1\x15": "a Parquet table: write it as .jsonl",
    b"\x93NUMPY": "a NumPy array: write it as text",
    b"\x89HDF": "an HDF5 file: write it as .jsonl",
    b"SQLite format 3\x00": "a database: write its table as .jsonl",
    b"\x89PNG": "an image: give text",
    b"\xff\xd8\xff": "an image: give text",
}


def check_file(path):
    """Raise ValueError where there is something at path that is no file, such as a pipe."""
    if Path(path).exists():
        mode = Path(path).stat().st_mode
        for other, name in OTHERS:
            if other(mode):
                raise ValueError(f"{path} is not a regular file but a {name}; give a file")


def binary(head):
    """The first bytes of a file  ->  why they are no text and what to do, or ""."""
    found = next((what for magic, what in BINARIES.items() if head.startswith(magic)), "")
    if not found and head[:HEAD].count(0) > NULS:
        found = "binary, or text in UTF-16: convert it to UTF-8"
    return found


def check_line(size):
    """Raise ValueError for a line of more bytes than are read."""
    if size > LINE:
        raise ValueError(f"a line has more than {LINE:,} bytes; break it into shorter ones")


def largest(packed):
    """The bytes that a packed file of this many may unpack to."""
    return max(UNPACKED, GROWTH * packed)


def check_growth(size, packed):
    """Raise ValueError for `packed` bytes that unpack to `size`, or more, where that is no data."""
    if size > largest(packed):
        raise ValueError(
            f"{packed:,} bytes unpack to more than {largest(packed):,}, the larger of "
            f"{UNPACKED:,} and {GROWTH} times their size; unpack the file and look at it"
        )


def check_array(shape, itemsize, held):
    """Raise ValueError where an array of this shape is not the `held` bytes that are there, or
    more than are read."""
    size = math.prod(shape) * itemsize
    if size > ARRAYS:
        raise ValueError(
            f"its shape {short(shape)} takes {size:,} bytes, of which at most {ARRAYS:,} are "
            f"read; split it"
        )
    if size != held or min(shape, default=0) < 0:
        raise ValueError(
            f"its shape {short(shape)} takes {size:,} bytes, where {held:,} are there; save it "
            f"again"
        )


def json_of(text):
    """A JSON text  ->  what it says. Raises ValueError for one that is none or nests too deep."""
    depth = _depth(text)
    if depth > DEPTH:
        raise ValueError(
            f"lists and objects are nested {depth:,} deep, of which at most {DEPTH} are read; "
            f"flatten them"
        )
    return json.loads(text)


def read_json(path, most=None, what="a JSON document"):
    """The value of a JSON file, which is `what` and has at most so many bytes. Raises ValueError,
    with its path, and what opening it raises."""
    check_file(path)
    size, most = Path(path).stat().st_size, DOCUMENT if most is None else most
    if size > most:
        raise ValueError(f"{path} has {size} bytes; {what} has at most {most}")
    try:
        return json_of(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {cut(error)}") from None


def _depth(text):
    """How deep a JSON text nests: brackets outside its strings, counted before it is parsed."""
    if text.count("[") + text.count("{") <= DEPTH:
        return 0
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    steps = (1 if mark in "[{" else -1 for mark in re.findall(r"[\[\]{}]", outside))
    return max(accumulate(steps), default=0)


def short(value, most=60):
    """How an error writes a value: its repr in one line, cut where it is long."""
    if isinstance(value, list | tuple | dict) and len(value) > most:
        return f"{type(value).__name__} of {len(value):,}"
    return cut(repr(value), most)


def cut(text, most=200):
    """A text for an error in one line, its end left out where it is long."""
    text = " ".join(str(text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def few(names, most=10):
    """How an error lists names: the first of them, and how many more there are."""
    names = list(names)
    rest = len(names) - most
    return ", ".join(cut(name, 30) for name in names[:most]) + (
        f" … and {rest:,} more" if rest > 0 else ""
    )


def several(parts, joint=", ", room=300):
    """How an error lists long things: whole ones, as many as `room` characters hold, and how many
    more there are."""
    parts = [str(part) for part in parts]
    shown = [part for part, end in zip(parts, accumulate(len(p) + 2 for p in parts), strict=True)
             if end <= room]  # fmt: skip
    shown = shown or [f"{part[: room - 1]}…" for part in parts[:1]]
    rest = len(parts) - len(shown)
    return joint.join(shown) + (f" … and {rest:,} more" if rest else "")
