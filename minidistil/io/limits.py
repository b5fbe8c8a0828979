"""Upper bounds for input files, far above real data, and how errors shorten long values.

Input files are untrusted: a pipe may never end, kilobytes may unpack to a terabyte, a header may
ask for more memory than the machine has. Every reader checks these bounds before it allocates.
"""

import json
import math
import re
import stat
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

LINE = 2**27  # bytes of a line; text8, 100 MB of Wikipedia, is a single line
DOCUMENT = 2**29  # bytes of one JSON document; SQuAD has 2**25
SETTINGS = 2**26  # bytes of a JSON file of a model's or a run's folder
DEPTH = 100  # nested lists and objects
GROWTH = 200  # ratio of unpacked to packed size; text reaches 10
UNPACKED = 2**26  # unpacked bytes that are allowed at any ratio
ARRAYS = 2**33  # bytes of the arrays in one file
HEAD = 4096  # bytes at the start of a file that show whether it is text
NULS = 16  # NUL bytes allowed in the head of a text; UTF-16 has 2,048

OTHERS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"),
          (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))  # fmt: skip
BINARIES = {  # {first bytes of a binary format: its name and the remedy}
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


def check_file(path: str | Path) -> None:
    """Raise ValueError where path exists and is not a regular file."""
    if Path(path).exists():
        mode = Path(path).stat().st_mode
        for other, name in OTHERS:
            if other(mode):
                raise ValueError(f"{path} is not a regular file but a {name}; give a file")


def binary(head: bytes) -> str:
    """The first bytes of a file  ->  its binary format and the remedy, "" for text."""
    found = next((what for magic, what in BINARIES.items() if head.startswith(magic)), "")
    if not found and head[:HEAD].count(0) > NULS:
        found = "binary, or text in UTF-16: convert it to UTF-8"
    return found


def check_line(size: int) -> None:
    """Raise ValueError for a line of more than LINE bytes."""
    if size > LINE:
        raise ValueError(f"a line has more than {LINE:,} bytes; break it into shorter ones")


def largest(packed: int) -> int:
    """The number of bytes that `packed` bytes may unpack to."""
    return max(UNPACKED, GROWTH * packed)


def check_growth(size: int, packed: int) -> None:
    """Raise ValueError where `packed` bytes unpack to `size` bytes, more than is allowed."""
    if size > largest(packed):
        raise ValueError(
            f"{packed:,} bytes unpack to more than {largest(packed):,}, the larger of "
            f"{UNPACKED:,} and {GROWTH} times their size; unpack the file and look at it"
        )


def check_array(shape: Sequence[int], itemsize: int, held: int) -> None:
    """Raise ValueError where an array of this shape takes more than ARRAYS bytes, or a different
    number of bytes than the file holds."""
    size = math.prod(shape) * itemsize
    if size > ARRAYS:
        raise ValueError(
            f"its shape {short(shape)} takes {size:,} bytes, of which at most {ARRAYS:,} are "
            f"read; split it"
        )
    if size != held or min(shape, default=0) < 0:
        raise ValueError(
            f"its shape {short(shape)} takes {size:,} bytes, but the file holds {held:,}; save it "
            f"again"
        )


def json_of(text: str) -> Any:
    """Parse a JSON text. Raises ValueError for invalid JSON and for nesting deeper than DEPTH."""
    depth = _depth(text)
    if depth > DEPTH:
        raise ValueError(
            f"lists and objects are nested {depth:,} deep, of which at most {DEPTH} are read; "
            f"flatten them"
        )
    return json.loads(text)


def read_json(path: str | Path, most: int | None = None, what: str = "a JSON document") -> Any:
    """The value of a JSON file of at most `most` bytes (None: DOCUMENT). what: its name in errors.

    Raises ValueError, naming path, and the OSErrors of opening it."""
    check_file(path)
    size, most = Path(path).stat().st_size, DOCUMENT if most is None else most
    if size > most:
        raise ValueError(f"{path} has {size} bytes; {what} has at most {most}")
    try:
        return json_of(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {cut(error)}") from None


def _depth(text):
    """Nesting depth of a JSON text, counted by brackets outside its strings; 0 for few brackets."""
    if text.count("[") + text.count("{") <= DEPTH:
        return 0
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    steps = (1 if mark in "[{" else -1 for mark in re.findall(r"[\[\]{}]", outside))
    return max(accumulate(steps), default=0)


def short(value: Any, most: int = 60) -> str:
    """A value for an error message: its repr in one line of at most `most` characters."""
    if isinstance(value, list | tuple | dict) and len(value) > most:
        return f"{type(value).__name__} of {len(value):,}"
    return cut(repr(value), most)


def cut(text: Any, most: int = 200) -> str:
    """A text for an error message: one line, truncated to `most` characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def few(names: Iterable[Any], most: int = 10) -> str:
    """A list of names for an error message: the first `most` and the number of the others."""
    names = list(names)
    rest = len(names) - most
    return ", ".join(cut(name, 30) for name in names[:most]) + (
        f" … and {rest:,} more" if rest > 0 else ""
    )


def several(parts: Iterable[Any], joint: str = ", ", room: int = 300) -> str:
    """A list of long items for an error message: as many as fit into `room` characters, and the
    number of the others."""
    parts = [str(part) for part in parts]
    shown = [part for part, end in zip(parts, accumulate(len(p) + 2 for p in parts), strict=True)
             if end <= room]  # fmt: skip
    shown = shown or [f"{part[: room - 1]}…" for part in parts[:1]]
    rest = len(parts) - len(shown)
    return joint.join(shown) + (f" … and {rest:,} more" if rest else "")
