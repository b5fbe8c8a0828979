"""The answer of `reproduce` as text: a table of a row's models, compared with the stored one."""

import math
from collections.abc import Mapping

from minidistil.cli.reproduce.promise import Promise, TaskKept, claims, macro_average, sentence
from minidistil.cli.reproduce.row_file import ResultsRow
from minidistil.cli.reproduce.row_section import percent
from minidistil.cli.reproduce.stages import minutes_of
from minidistil.cli.reproduce.summary import away, energy_sources, parts_of, summaries
from minidistil.io.console import Answer, table
from minidistil.io.counts import counted

WITHIN = "within it"


def row_text(row: ResultsRow, kind: str, result: Mapping) -> str:
    """The table of a row that was run; kind: "full" or "quick", what it is compared with."""
    before, parts = _stored(row, kind), [row.use]
    for share, part in parts_of(result):
        heading = "" if share is None else f"{percent(float(share))} of the labels\n"
        parts.append(heading + _part(row, part, before.get(share, {})))
    return "\n\n".join(parts)


def compared(row: ResultsRow, kind: str, result: Mapping) -> dict:
    """{model: how far its median is from the stored range, as `away` has it}, for each share where
    the row has some; without models that are not stored."""
    before, found = _stored(row, kind), {}
    for share, part in parts_of(result):
        old = before.get(share, {})
        found[share] = {s.name: away(s, old[s.name]) for s in summaries(row, part) if s.name in old}
    return found.get(None, found)


def promise_answer(promise: Promise, found: list[TaskKept], missing: list[str]) -> Answer:
    """The table of the tasks, and a line that says what holds. missing: rows without a result."""
    checked = claims(promise, found)
    lines = [(
        one.row.name, one.row.metric, f"{one.teacher.median:.4f}", f"{one.student.median:.4f}",
        percent(one.student.kept, 1), percent(one.smaller, 1), f"{one.student.times:.2f}",
    ) for one in found]  # fmt: skip
    header = ("", "metric", "teacher", promise.student, "kept", "smaller", "times as fast")
    text = [promise.use, table(header, lines), sentence(checked)]
    if missing:
        text.append(f"without a result: {', '.join(missing)}")
    holds = {claim.promised: claim.holds for claim in checked}
    data = {"holds": holds, "kept": macro_average(found), "missing": missing,
            "rows": {one.row.name: one.student.kept for one in found}}  # fmt: skip
    return Answer(data, "\n\n".join(text), 0 if all(holds.values()) else 1)


def expectation(row: ResultsRow, minutes: float) -> str:
    """What --quick says before it starts.

    minutes: an estimate for the row and those that it needs; more, if its stored trainings alone
    took longer than what is estimated for the row.
    """
    before, expect = _stored(row, "quick"), "no numbers are stored to compare with"
    if before:
        seconds = sum(s.seconds or 0 for part in before.values() for s in part.values())
        minutes += max(0, seconds / 60 - minutes_of(row, True))
        expect = "expect " + "; ".join(
            ("" if share is None else f"with {percent(float(share))} of the labels ")
            + ", ".join(f"{s.shown} {s.median:.4f}" for s in part.values())
            for share, part in before.items()
        )
    about = counted(max(1, math.ceil(minutes)), "minute")
    return f"{row.name}, a tenth of the steps: about {about}; {expect}"


def _stored(row, kind):
    """{share of the labels, or None: {model: its stored numbers}}; {} where nothing is stored."""
    parts = parts_of(row.results[kind]) if kind in row.results else []
    return {share: {s.name: s for s in summaries(row, part)} for share, part in parts}


def _part(row, result, before):
    lines, outside, single = [], [], []
    for s in summaries(row, result):
        old = before.get(s.name)
        words = _compared(s, old)
        if old and old.seeds == 1:
            single.append(f"{s.shown} {words}")
        elif words != WITHIN:
            outside.append(f"{s.shown}, {words}")
        lines.append((
            s.shown, f"{s.median:.4f}", f"{s.low:.4f} to {s.high:.4f}", str(s.seeds),
            f"{old.median:.4f} ({old.low:.4f} to {old.high:.4f})" if old else "none",
            words, percent(s.kept, 1), _number(s.parameters, 1e6), _number(s.bytes, 1e6),
            _number(s.times, 1, 2), _number(s.joules, 1), _number(s.training, 1e3),
        ))  # fmt: skip
    header = (
        "", row.metric, "range", "seeds", "stored range", "new median", "kept", "M parameters",
        "MB", "times as fast", "J per 1,000 sentences", "kJ of training",
    )  # fmt: skip
    text = []
    if not before:
        text.append("No result is stored to compare with.")
    elif outside:
        text.append(f"Outside the stored range: {'; '.join(outside)}.")
    elif len(single) < len(lines):
        text.append("Every median is within the stored range.")
    if single:
        text.append(f"Difference from the stored number of one seed: {', '.join(single)}.")
    text.append(f"energy: {', '.join(energy_sources(result)) or 'none'}")
    return f"{table(header, lines)}\n\n" + "\n".join(text)


def _compared(now, stored):
    """Where a model's median is against the stored numbers, in words."""
    if stored is None:
        return "nothing is stored"
    difference = round(away(now, stored), 4) + 0.0  # and never -0.0
    if stored.seeds == 1:
        return f"{difference:+.4f}"
    side = "above" if difference > 0 else "below"
    return f"{abs(difference):.4f} {side} it" if difference else WITHIN


def _number(value, unit, digits=1):
    return "-" if value is None else f"{value / unit:.{digits}f}"
