"""Output of the commands: a message on one line, a progress bar, a table."""

import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

MOST = 499  # characters of a line, its end not counted
REMEDY = 240  # of them at most for what follows the last semicolon
QUIET_SECONDS = 2  # a progress bar shows up for what takes longer


@dataclass(frozen=True)
class Answer:
    """What a command found: `data` for --json, `text` for people."""

    data: object
    text: str
    code: int = 0


def one_line(text):
    """A message  ->  one line of printable characters, without its middle where it is too long.

    What is wrong stands at the beginning of a message, and what to do at its end, behind a
    semicolon: both stay.
    """
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) <= MOST:
        return line
    end = line[line.rfind("; ") :] if "; " in line else ""
    end = end if len(end) <= REMEDY else line[-REMEDY:]
    left_out = f" … ({len(line) - MOST:,} characters left out) …"
    return line[: MOST - len(left_out) - len(end)] + left_out + end


@contextmanager
def said_once(args):
    """What a model's folder is warned of when a run begins is not repeated when it is resumed."""
    with warnings.catch_warnings():
        if args.resume:
            warnings.simplefilter("ignore")
        yield


def progress(iterable, description, **options):
    """The iterable behind a bar on stderr, shown after two seconds and on terminals only."""
    return tqdm(
        iterable, desc=description, file=sys.stderr, disable=None, delay=QUIET_SECONDS,
        dynamic_ncols=True, leave=False, **options,
    )  # fmt: skip


def table(header, rows):
    """Rows of str as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *others in (header, *rows):
        cells = [f"{x:>{w}}" for x, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)
