"""The sentence that articles have on DistilBERT, checked: 60 % smaller, 60 % faster, 97 % kept.

Its file says which stage is the student and the three limits. It is measured on every row that has
this stage. Bytes and speed have to hold on each of these tasks, the metric in the macro average:
the mean of the students' medians over the mean of the teachers'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from minidistil.cli.reproduce.row_file import PROMISE, ROWS, ResultsRow
from minidistil.cli.reproduce.row_section import percent
from minidistil.cli.reproduce.summary import Summary, summaries
from minidistil.io.files import read_settings


@dataclass(frozen=True)
class Promise:
    """The student's stage and what is promised of it: shares of 1.

    smaller: fewer bytes on disk; faster: 0.6 is 1.6 times as fast; kept: of the teacher's metric.
    notes: sentences for the page of results.
    """

    use: str
    student: str
    smaller: float
    faster: float
    kept: float
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TaskKept:
    """What the student of one row reaches against its teacher."""

    row: ResultsRow
    teacher: Summary
    student: Summary

    @property
    def smaller(self) -> float:
        return 1 - self.student.bytes / self.teacher.bytes


@dataclass(frozen=True)
class Claim:
    """A part of the sentence: what is promised, whether it holds, and the measured value."""

    promised: str
    holds: bool
    measured: str


def read_promise() -> Promise:
    """The promise that comes with the package."""
    return Promise(**read_settings(Path(str(ROWS / f"{PROMISE}.json"))))


def has_student(row: ResultsRow, promise: Promise) -> bool:
    """Whether a row has the promise's student."""
    return any(stage.name == promise.student for stage in row.stages) and not row.shares


def measured_in(row: ResultsRow, kind: str, promise: Promise) -> bool:
    """Whether a row's stored result, "full" or "quick", has the promise's student."""
    return promise.student in row.results.get(kind, {}).get("stages", {})


def kept_by(promise: Promise, results: Sequence[tuple[ResultsRow, Mapping]]) -> list[TaskKept]:
    """(row, its result)  ->  what the student of each row reaches."""
    found = []
    for row, result in results:
        of = summaries(row, result)
        found.append(TaskKept(row, of[0], next(s for s in of if s.name == promise.student)))
    return found


def claims(promise: Promise, found: list[TaskKept]) -> list[Claim]:
    """The three parts of the sentence, checked."""
    smaller = min(one.smaller for one in found)
    times = min(one.student.times for one in found)
    kept = macro_average(found)
    missed = [f"{one.row.name} ({percent(one.student.kept, 1)})"
              for one in found if one.student.kept < promise.kept]  # fmt: skip
    below = f"; below {percent(promise.kept, 0)} on {', '.join(missed)}" if missed else ""
    return [
        Claim(f"{percent(promise.smaller, 0)} smaller", smaller >= promise.smaller,
              f"at least {percent(smaller, 1)} on every task"),
        Claim(f"{percent(promise.faster, 0)} faster", times >= 1 + promise.faster,
              f"at least {times:.2f} times as fast on every task"),
        Claim(f"{percent(promise.kept, 0)} kept", kept >= promise.kept,
              f"{percent(kept, 1)} in the macro average{below}"),
    ]  # fmt: skip


def macro_average(found: list[TaskKept]) -> float:
    """The mean of the students' medians over the mean of the teachers'."""
    teachers = fmean(one.teacher.median for one in found)
    return fmean(one.student.median for one in found) / teachers


def sentence(checked: list[Claim]) -> str:
    """The claims in one line: which hold, and what was measured."""
    return "; ".join(
        f"{claim.promised}: {'yes' if claim.holds else 'no'}, {claim.measured}" for claim in checked
    )
