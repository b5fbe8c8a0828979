"""The section of a row on the page of results, as Markdown."""

from collections.abc import Iterable, Sequence

from minidistil.cli.reproduce.row_file import ResultsRow
from minidistil.cli.reproduce.summary import Summary, by_share, energy_sources, summaries
from minidistil.io.counts import counted

NONE = "–"
HEADER = ["", "median", "range", "seeds", "kept", "parameters, millions", "MB", "times as fast",
          "J for 1,000 sentences", "kJ of training"]  # fmt: skip


def row_section(row: ResultsRow) -> str:
    """What the row is about, its models, notes, commands and machine."""
    use = f"{row.use[0].upper()}{row.use[1:]}"
    folder = f"`{row.data['folder']}`, from " * (row.data["folder"] not in ("", "."))
    parts = [f"### {row.name}", f"{use}. Data: {folder}{row.data['source']}."]
    if result := row.results.get("full"):
        shares = by_share(row, result) if row.shares else {}
        found = [(f"{percent(share)} of the labels: ", some) for share, some in shares.items()]
        found = found or [("", summaries(row, result))]
        parts += [f"Metric: {row.metric}, times 100.", models_table(found)]
    parts += ["\n".join(f"* {note}" for note in row.notes)] * bool(row.notes)
    if row.search:
        tried = [[one["stage"], f"`{one['tried']}`", f"{one['score']:.4f}"] for one in row.search]
        header = ["what was tried", "options", "score on the held-out part"]
        parts.append(markdown(header, tried, words=2))
    commands = [f"minidistil {stage.command} --out {{{stage.name}}}"
                for stage in row.stages if stage.command]  # fmt: skip
    if row.measure:
        commands.append(f"minidistil {row.measure} --model {{NAME}}")
    parts.append("\n".join(["```", *commands, "```"]))
    parts.append(" ".join([*_machine(result), f"Again: `minidistil reproduce {row.name}`."]))
    return "\n\n".join(parts)


def models_table(found: Iterable[tuple[str, list[Summary]]]) -> str:
    """(what models have in common, models)  ->  one a line, without columns that are empty."""
    lines = [[
        f"{common}{s.shown}", points(s), span(s), str(s.seeds), percent(s.kept, 1),
        cell(s.parameters, 1e-6), cell(s.bytes, 1e-6), cell(s.times, 1, 2), cell(s.joules, 1),
        cell(s.training, 1e-3),
    ] for common, some in found for s in some]  # fmt: skip
    kept = [i for i in range(len(HEADER)) if any(line[i] != NONE for line in lines)]
    return markdown([HEADER[i] for i in kept], [[line[i] for i in kept] for line in lines])


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table in Markdown: the first columns hold words, the others numbers, aligned right."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def points(s: Summary | None) -> str:
    """The median of a model's metric, times 100."""
    return cell(s and s.median, 100)


def span(s: Summary) -> str:
    """The least and the largest value over the seeds, times 100."""
    return f"{100 * s.low:.1f} to {100 * s.high:.1f}" if s.seeds > 1 else NONE


def percent(share: float, digits: int | None = None) -> str:
    """0.001  ->  "0.1 %"; with one digit 0.97  ->  "97.0 %"."""
    return f"{100 * share:g} %" if digits is None else f"{100 * share:.{digits}f} %"


def cell(value: float | None, times: float, digits: int = 1) -> str:
    """A number times a factor; a dash where it is missing."""
    return NONE if value is None else f"{value * times:,.{digits}f}"


def _machine(result):
    """The machine of a result, in a sentence, and where its joules come from."""
    if result is None:
        return []
    m = result["machine"]
    threads = counted(m["threads"], "thread") if m["threads"] else "all threads"
    where = f"minidistil {m['versions']['minidistil']}"
    if m.get("commit"):
        where += f", recorded at {m['commit']}"
    sources = " and ".join(energy_sources(result))
    energy = [f"Energy: {sources}."] if sources else []
    return [f"{m['processor']}, {threads}, {where}, {m['date']}.", *energy]
