"""The result of a comparison: as a dict, as text, and as HTML with a heat map."""

import html
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import isfinite, log10

from minidistil.check import not_compared
from minidistil.io.counts import counted, part_of

BOLD, RED, GREEN, PLAIN = "\033[1m", "\033[31m", "\033[32m", "\033[0m"


@dataclass
class Diagnosis:
    """A named mistake."""

    id: str
    message: str
    where: str | None
    evidence: str


@dataclass
class Row:
    """One compared quantity: its relative error, and the relative rounding error of float32."""

    name: str
    kind: str  # forward, output, gradient, loss or step
    error: float
    explained: float
    agrees: bool
    where: str | None = None


@dataclass
class Report:
    """The result of a comparison: `str(report)` to read, `report.to_dict()` for programs."""

    verdict: str  # agree, differ or cannot-compare
    first_difference: str | None = None
    diagnosis: list[Diagnosis] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    where: str | None = None  # the file and line of the first difference
    evidence: str | None = None  # of a difference that no known mistake explains
    reason: str | None = None  # why nothing, or not enough, can be compared
    only_on: str | None = None  # the batch of the difference, where another batch agrees
    arises: tuple | None = None  # quantities between which an unseen difference arises

    @classmethod
    def cannot(cls, reason: str, unmatched: Iterable[str] = ()) -> "Report":
        """The report of a comparison that is impossible."""
        return cls("cannot-compare", reason=reason, unmatched=list(unmatched))

    @property
    def code(self) -> int:
        """The exit code of a command: 0 agree, 1 differ, 2 cannot compare."""
        return {"agree": 0, "differ": 1}.get(self.verdict, 2)

    def to_dict(self) -> dict:
        """The object that --json prints."""
        return {
            "verdict": self.verdict,
            "first_difference": self.first_difference,
            "diagnosis": [asdict(d) for d in self.diagnosis],
            "rows": [_finite(asdict(row)) for row in self.rows],
            "unmatched": list(self.unmatched),
        }

    def add(self, other: "Report") -> None:
        """Append another comparison; an earlier first difference stays."""
        self.rows += other.rows
        self.unmatched += other.unmatched
        if self.verdict != "differ" and other.verdict != "agree":
            self.verdict, self.first_difference = other.verdict, other.first_difference
            self.diagnosis, self.where = other.diagnosis, other.where
            self.evidence, self.reason = other.evidence, other.reason

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self):
        return self.html()

    # ------------------------------------------------------- text

    def text(self, colour: bool = False) -> str:
        """The verdict, the table in execution order, the diagnosis."""

        def painted(text, *codes):
            return "".join(codes) + text + PLAIN if colour and codes else text

        if not self.rows:
            return painted(f"cannot compare: {self.reason}", BOLD)
        lines = [_line("quantity", "error", "float32", "", "where"), ""]
        for row in self._shown():
            line = _line(*_cells(row))
            codes = () if row.agrees else (RED,)
            codes = (BOLD, RED) if row.name == self.first_difference else codes
            lines.append(painted(line.rstrip(), *codes))
        gradients = self._gradients_that_differ()
        lines += ["", gradients] if gradients else []
        lines += ["", *self._verdict(painted), "", not_compared.line(self.unmatched)]
        return "\n".join(lines)

    def _gradients_that_differ(self):
        """How many do, "" where none was compared."""
        gradients = [row for row in self.rows if row.kind == "gradient"]
        bad = sum(not row.agrees for row in gradients)
        return part_of(bad, len(gradients), "gradient", "differs") if gradients else ""

    def _shown(self):
        """Every row; of gradients only the worst, or all that differ if the first one is among
        them."""
        gradients = [row for row in self.rows if row.kind == "gradient"]
        if not gradients:
            return self.rows
        shown = {id(max(gradients, key=lambda row: row.error))}
        if any(row.name == self.first_difference for row in gradients):
            shown |= {id(row) for row in gradients if not row.agrees}
        return [row for row in self.rows if row.kind != "gradient" or id(row) in shown]

    def _verdict(self, painted):
        compared = counted(len(self.rows), "quantity")
        if self.verdict == "agree":
            return [painted(f"agree: {compared}, to float32's rounding", BOLD, GREEN)]
        if self.verdict == "cannot-compare":
            return [painted(f"cannot compare: {self.reason}", BOLD)]
        lines = [painted(f"first difference: {self.first_difference}", BOLD, RED)]
        if self.where:
            lines.append(f"  at {self.where}")
        if self.arises:
            good, bad, unseen = self.arises
            lines.append(
                f"  it arises between {good or 'the input'}, which agrees, and {bad or 'the end'}, "
                f"which differs; {', '.join(unseen)} are not recorded"
            )
        if self.only_on:
            lines.append(f"  on {self.only_on}; another batch agrees")
        if not self.diagnosis:
            lines.append("  no known mistake reproduces these numbers")
            lines.append(f"  evidence: {self.evidence}")
        for d in self.diagnosis:
            message = d.message.replace("\n", "\n  ")
            lines += ["", painted(d.id, BOLD), f"  {message}", f"  evidence: {d.evidence}"]
        return lines

    # ------------------------------------------------------- HTML

    def html(self) -> str:
        """A fragment of HTML: verdict, heat map by layer and quantity, the table."""
        lines = "\n".join(self._verdict(lambda text, *codes: text)) if self.rows else self.reason
        parts = [f"<pre>{html.escape(str(lines))}</pre>"]
        if self.rows:
            parts += [self._heat_map(), self._table()]
        items = "".join(f"<li>{html.escape(name)}</li>" for name in self.unmatched or ["nothing"])
        parts.append(f"<h2>Not compared</h2><ul>{items}</ul>")
        return "\n".join(parts)

    def _heat_map(self):
        cells, places, names = {}, [], []
        for row in self.rows:
            if row.kind != "forward":
                continue
            place, _, name = row.name.rpartition(".")
            place = place or "outside"
            places += [place] if place not in places else []
            names += [name] if name not in names else []
            cells[place, name] = row
        head = "".join(f"<th>{html.escape(place)}</th>" for place in ("", *places))
        body = "".join(
            f"<tr><th>{html.escape(name)}</th>"
            + "".join(_cell(cells.get((place, name)), self.first_difference) for place in places)
            + "</tr>"
            for name in names
        )
        return f"<h2>Error by layer and quantity</h2><table><tr>{head}</tr>{body}</table>"

    def _table(self):
        """The rows that the terminal shows, and all others folded."""
        shown = self._shown()
        rest = [row for row in self.rows if not any(row is one for one in shown)]
        parts = ["<h2>The quantities</h2>", _rows_as_html(shown)]
        gradients = self._gradients_that_differ()
        parts += [f"<p>{gradients}</p>"] if gradients else []
        if rest:
            parts.append(
                f"<details><summary>{counted(len(rest), 'other gradient')}</summary>"
                f"{_rows_as_html(rest)}</details>"
            )
        return "\n".join(parts)


def _rows_as_html(rows):
    cells = [("th", ("quantity", "error", "float32", "", "where"))]
    cells += [("td", _cells(row)) for row in rows]
    lines = ("".join(f"<{tag}>{html.escape(x)}</{tag}>" for x in line) for tag, line in cells)
    return '<table class="quantities">' + "".join(f"<tr>{x}</tr>" for x in lines) + "</table>"


def _cells(row):
    """A row as the terminal and the page show it."""
    mark = "" if row.agrees else "differs"
    return row.name, f"{row.error:.1e}", f"{row.explained:.1e}", mark, row.where or ""


def _finite(row):
    """A row for JSON, in which a number that is not finite is null."""
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}


def _line(name, error, explained, mark, where):
    return f"{name:<30} {error:>9} {explained:>9}  {mark:<8} {where}"


def _cell(row, first):
    """A cell of the heat map: the error, on a colour that deepens with its power of ten."""
    if row is None:
        return "<td></td>"
    power = log10(max(row.error, 1e-17)) if isfinite(row.error) else 0
    depth = 0 if row.agrees else min(1.0, max(0.15, (power + 7) / 7))
    colour = f"rgba(215,80,60,{depth:.2f})"  # on a light page and on a dark one
    bold = "font-weight:bold;outline:2px solid currentColor;" if row.name == first else ""
    return (
        f'<td style="background:{colour};{bold}" title="{html.escape(row.where or "")}">'
        f"{row.error:.0e}</td>"
    )
