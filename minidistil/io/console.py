"""Output of the commands: one-line messages, progress bars, tables."""

import sys
import warnings
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

LINE_LENGTH = 499  # characters of a message, without its line end
REMEDY_LENGTH = 240  # of them at most for the part after the last semicolon
TEXT_LENGTH = 76  # characters of a text that a terminal shows on one line
QUIET_SECONDS = 2  # a progress bar appears after this time


@dataclass(frozen=True)
class Answer:
    """Result of a command: `data` for --json, `text` for the terminal, `code` the exit status."""

    data: object
    text: str
    code: int = 0


def one_line(text: Any) -> str:
    """A message  ->  one line of printable characters; a long one loses its middle.

    A message states the problem at its beginning and the remedy at its end, behind a semicolon.
    Both are kept.
    """
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) <= LINE_LENGTH:
        return line
    end = line[line.rfind("; ") :] if "; " in line else ""
    end = end if len(end) <= REMEDY_LENGTH else line[-REMEDY_LENGTH:]
    left_out = f" … ({len(line) - LINE_LENGTH:,} characters left out) …"
    return line[: LINE_LENGTH - len(left_out) - len(end)] + left_out + end


@contextmanager
def silent_on_resume(args: Namespace) -> Iterator[None]:
    """Suppress the warnings of loading a model when a run is resumed; its start has shown them."""
    with warnings.catch_warnings():
        if args.resume:
            warnings.simplefilter("ignore")
        yield


def progress(iterable: Iterable | None, description: str, **options: Any) -> tqdm:
    """The iterable with a progress bar on stderr, shown after two seconds and on terminals only."""
    return tqdm(
        iterable, desc=description, file=sys.stderr, disable=None, delay=QUIET_SECONDS,
        dynamic_ncols=True, leave=False, **options,
    )  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of str as text: the first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *others in (header, *rows):
        cells = [f"{x:>{w}}" for x, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)
