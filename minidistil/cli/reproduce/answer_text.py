"""The answer of `reproduce` as text: a table of a row's models, compared with the stored one."""

from collections.abc import Mapping

from minidistil.cli.reproduce.promise import Promise, TaskKept, claims, macro_average, sentence
from minidistil.cli.reproduce.row_file import ResultsRow
from minidistil.cli.reproduce.row_section import percent
from minidistil.cli.reproduce.summary import WITHIN, compared, energy_sources, summaries
from minidistil.io.console import Answer, table


def row_text(row: ResultsRow, kind: str, result: Mapping) -> str:
    """The table of a row that was run; kind: "full" or "quick", what it is compared with."""
    stored = row.results.get(kind)
    if not row.shares:
        return f"{row.use}\n\n{_part(row, result, stored)}"
    parts = [row.use]
    for share, found in result["shares"].items():
        before = stored["shares"].get(share) if stored else None
        parts.append(f"{percent(float(share))} of the labels\n{_part(row, found, before)}")
    return "\n\n".join(parts)


def promise_answer(promise: Promise, found: list[TaskKept], missing: list[str]) -> Answer:
    """The table of the tasks, and a line that says what holds. missing: rows without a result."""
    checked = claims(promise, found)
    lines = [(
        one.row.name, one.row.metric, f"{one.teacher.median:.4f}", f"{one.student.median:.4f}",
        f"{one.student.kept:.1%}", f"{one.smaller:.1%}", f"{one.student.times:.2f}",
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
    """What --quick says before it starts. minutes: an estimate; stored times replace it."""
    stored = row.results.get("quick")
    if not stored:
        expect = "no numbers are stored to compare with"
    else:
        parts = stored["shares"].items() if row.shares else [(None, stored)]
        seconds = sum(s.seconds or 0 for _, part in parts for s in summaries(row, part))
        minutes = seconds / 60 or minutes
        expect = "expect " + "; ".join(
            ("" if share is None else f"with {percent(float(share))} of the labels ")
            + ", ".join(f"{s.shown} {s.median:.4f}" for s in summaries(row, part))
            for share, part in parts
        )
    return f"{row.name}, a tenth of the steps: about {max(1, minutes):.0f} minutes; {expect}"


def _part(row, result, stored):
    before = {s.name: s for s in summaries(row, stored)} if stored else {}
    lines, where = [], {}
    for s in summaries(row, result):
        old = before.get(s.name)
        where[s.shown] = compared(s, old)
        lines.append((
            s.shown, f"{s.median:.4f}", f"{s.low:.4f} to {s.high:.4f}", str(s.seeds),
            f"{old.median:.4f} ({old.low:.4f} to {old.high:.4f})" if old else "none",
            where[s.shown], f"{s.kept:.1%}", _number(s.parameters, 1e6), _number(s.bytes, 1e6),
            _number(s.times, 1, 2), _number(s.joules, 1), _number(s.training, 1e3),
        ))  # fmt: skip
    header = (
        "", row.metric, "range", "seeds", "stored range", "new median", "kept", "M parameters",
        "MB", "times as fast", "J per 1,000 sentences", "kJ of training",
    )  # fmt: skip
    outside = [name for name, words in where.items() if words != WITHIN]
    if not stored:
        verdict = "No result is stored to compare with."
    elif outside:
        verdict = (
            "Outside the stored range: " + ", ".join(f"{n}, {where[n]}" for n in outside) + "."
        )
    else:
        verdict = "Every median is within the stored range."
    energy = ", ".join(energy_sources(result)) or "none"
    return f"{table(header, lines)}\n\n{verdict}\nenergy: {energy}"


def _number(value, unit, digits=1):
    return "-" if value is None else f"{value / unit:.{digits}f}"
