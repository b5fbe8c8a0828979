"""The section of the page of results that stands beside the paper's own figures."""

from collections.abc import Sequence
from dataclasses import replace

from minidistil.cli.reproduce.row_file import ResultsRow
from minidistil.cli.reproduce.row_section import markdown, percent, points, span
from minidistil.cli.reproduce.summary import summaries

TITLE = "## Compared with the paper"


def paper_section(rows: Sequence[ResultsRow]) -> list[str]:
    """Its parts, of the rows with results that have figures of the paper."""
    rows = [row for row in rows if row.paper and "full" in row.results]
    parts = [part for row in rows if "points" in row.paper for part in _differences(row)]
    if shares := [row for row in rows if "kept" in row.paper]:
        parts += _kept(shares)
    return [TITLE, *parts] if parts else []


def _differences(row):
    """The table of how far each student drops, and whether signs and order are the paper's."""
    found = {s.name: s for s in summaries(row, row.results["full"])}
    losses = {s.name: s.median for s in summaries(replace(row, metric="loss"), row.results["full"])}
    whole, paper = found[row.paper["from"]], row.paper["points"]
    away = {name: 100 * (found[name].median - whole.median) for name in paper}
    lines = [
        [s.shown, points(s), span(s), f"{losses[name]:.3f}", _signed(away.get(name)),
         _signed(paper.get(name))] for name, s in found.items()
    ]  # fmt: skip
    header = ["", f"{row.metric}, times 100", "range", "loss", f"difference to {whole.shown}",
              "paper"]  # fmt: skip
    signs = [found[name].shown for name in paper if away[name] * paper[name] <= 0]
    ours, theirs = ([found[name].shown for name in sorted(paper, key=drops.get)]
                    for drops in (away, paper))  # fmt: skip
    verdict = "All signs are the paper's" if not signs else (
        f"The sign is not the paper's: {', '.join(signs)}")  # fmt: skip
    order = "the same" if ours == theirs else f"here {', '.join(ours)}, there {', '.join(theirs)}"
    return [
        f"[{row.use[0].upper()}{row.use[1:]}](#{row.name}):", markdown(header, lines),
        f"{verdict}. The order from the largest drop to the smallest is {order}.",
    ]  # fmt: skip


def _kept(rows):
    """What fine-tuned students keep of their fine-tuned teachers."""
    lines = []
    for row in rows:
        found = summaries(row, row.results["full"])
        for student in found[1:]:
            if share := row.paper["kept"].get(student.name):
                lines.append([f"[{row.use}](#{row.name})", points(found[0]), points(student),
                              percent(student.kept, 1), percent(share, 1)])  # fmt: skip
    header = ["fine-tuned on", "teacher", "student", "kept", "paper"]
    return ["A student of the same teacher, fine-tuned as the teacher is:", markdown(header, lines)]


def _signed(value):
    """2.5  ->  "+2.50", -2.5  ->  "−2.50"."""
    return "" if value is None else f"{value:+.2f}".replace("-", "−")
