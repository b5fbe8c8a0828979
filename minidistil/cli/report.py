"""Write a run's report.html, and the picture of its curves, again from the files of the run."""

import base64
import html
from pathlib import Path

from minidistil.cli.chosen_rate import PICTURE as RATES_PICTURE
from minidistil.cli.compare import compare_page
from minidistil.cli.html_page import is_page, page
from minidistil.cli.report_words import (
    GUESSED,
    commands_to_try,
    flat,
    glossary,
    html_table,
    meanings,
    next_commands,
    options_table,
    too_few,
)
from minidistil.cli.run_options import summarised
from minidistil.cli.students import part_folder
from minidistil.io import files
from minidistil.io.console import TEXT_LENGTH, Answer, table
from minidistil.io.limits import cut
from minidistil.io.outputs import check_file
from minidistil.train.best import sentence
from minidistil.train.run_folder import Run

EXAMPLE = "runs/distill"
PICTURE = "curves.png"
COMPARED = "a page with sliders, on a few held-out texts."
NO_PICTURE = "The curves are drawn with matplotlib, which is not installed: pip install matplotlib"
TWO_SIZES = "The table is measured on all held-out text, the curves on a quarter of it."
ONE_SIZE = "Table and curves are measured on all held-out text."  # from which a model is chosen
FORMATS = {"parameters": "{:,}", "bytes": "{:,}", "tokens_per_second": "{:,.0f}"}
PERCENT = ("accuracy", "agreement", "kept")
GUESSES = 3  # texts whose guesses the terminal shows


def add_options(parser):
    parser.add_argument("run_folder", metavar="RUN", help="the folder of a run")


def run(args):
    path = write(args.run_folder)
    return Answer({"report": str(path)}, str(path))


def write(folder):
    """Draw the curves, write report.html; returns its path. Raises ValueError for no run."""
    if not (Path(folder) / "run.json").is_file():
        raise ValueError(f"{folder} holds no run: there is no run.json; name the folder of a run")
    check_file(Path(folder) / "report.html", "a report of minidistil", is_page)
    own = Run(folder, resume=True)
    ended = own.folder / "report.json"
    found = files.read_json(ended) | {"out": str(own.folder)} if ended.exists() else {}
    rows = found.get("models", [])
    curves = _curves(own, [row["name"] for row in rows])
    picture = draw(own.folder / PICTURE, curves, rows[0] if rows else {})
    title = f"{own.command} — {own.folder.name}"
    path = own.folder / "report.html"
    files.write_bytes(path, page(title, _body(own, found, rows, picture)))
    return path


def _curves(run, names):
    """{label: lines of metrics.jsonl} of a run and of the students in its subfolders.

    names: the models in the order of the table; without a table, the folders' names are used.
    """
    parts = {part.parent.name: part.parent for part in sorted(run.folder.glob("*/run.json"))}
    labels = {part_folder(name): name for name in names if part_folder(name) in parts}
    labels = labels or {part: part.replace("-", " ") for part in parts}
    own = run.folder.name.encode("utf-8", "backslashreplace").decode()
    curves = {"distilled student" if parts else own: run.metrics()}
    for part, label in labels.items():
        curves[label] = Run(parts[part], resume=True).metrics()
    return curves


# ------------------------------------------------------- tables


def models_table(rows):
    """The table that ends `distill`, as text."""
    return table(*_cells(rows))


def guesses_table(rows, task):
    """The first guesses that end `distill`, as text: numbered texts, and a line a model."""
    rows, what = rows[:GUESSES], GUESSED[task]
    texts = [f"{n}  {cut(row['text'], TEXT_LENGTH)}" for n, row in enumerate(rows, 1)]
    header, guesses = _guesses(rows)
    numbers = map(str, range(1, 1 + len(rows)))
    lines = list(zip(header, *guesses, strict=True))[1:]
    return "\n".join([f"{what}:", "", *texts, "", table(("", *numbers), lines)])


def _cells(rows):
    names = list(rows[0])
    header = ["", *(name.replace("_", " ") for name in names[1:])]
    return header, [[_cell(name, row.get(name)) for name in names] for row in rows]


def _cell(name, value):
    if value is None or isinstance(value, str):
        return value or "-"
    if name in PERCENT:
        return f"{value:.1%}"
    return FORMATS.get(name, "{:.3f}").format(value)


def _body(run, found, rows, picture):
    sizes = ONE_SIZE if "kept" in found else TWO_SIZES
    parts = [html_table(*_cells(rows)), f"<p>{sizes}</p>"] if rows else []
    if few := too_few(found):
        parts.insert(0, f'<p class="warning">{html.escape(few)}</p>')
    if "kept" in found:
        parts.append(f"<p>{html.escape(sentence(found['kept']))}</p>")
    if found and not rows:
        parts.append(f"<pre>{html.escape(summarised(found))}</pre>")
    if picture:
        parts.append(_image("learning curves", picture))
    else:
        parts.append(f"<p>{NO_PICTURE}</p>")
    rates = run.folder / RATES_PICTURE
    if rates.is_file():
        parts.append("<h2>The learning rate</h2>" + _image("learning rates", rates))
    parts.append(glossary(meanings(found)))
    if found.get("guesses"):
        parts.append(f"<h2>What they guess</h2><p>{GUESSED[found['task']]}.</p>")
        parts.append(html_table(*_guesses(found["guesses"]), "text"))
    if (run.folder / compare_page.NAME).is_file():
        parts.append(f'<p><a href="{compare_page.NAME}">{compare_page.TITLE}</a>: {COMPARED}</p>')
    if found:
        parts.append(commands_to_try(next_commands(found)))
        numbers = {k: v for k, v in found.items() if k not in ("models", "out", "guesses")}
        parts.append("<h2>How it ended</h2>" + html_table(("", ""), flat(numbers)))
    else:
        parts.append(f"<p>This run has not ended; {html.escape(run.how_to_resume())}</p>")
    parts.append(options_table(run.options))
    return "\n".join(parts)


def _image(name, path):
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{name}" src="data:image/png;base64,{data}">'


def _guesses(rows):
    """The guesses of report.json as a header and the rows of a table."""
    names = [name for name in rows[0] if name != "probabilities"]
    shown = [[_guess(row, name) for name in names] for row in rows]
    return [name.replace("right", "right answer") for name in names], shown


def _guess(row, name):
    """A guess with its probability, where there is one."""
    probability = row.get("probabilities", {}).get(name)
    return row[name] if probability is None else f"{row[name]} {probability:.0%}"


# ------------------------------------------------------- the picture


def draw(path, curves, teacher):
    """Held-out measures over the steps, one panel each, one line a model; the teacher's is dashed.

    curves: {name: lines of metrics.jsonl}. Returns path, or None where matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("agg")
    from matplotlib import pyplot

    measured = {n: [x for x in lines if x.get("evaluation")] for n, lines in curves.items()}
    names = list(dict.fromkeys(k for v in measured.values() for x in v for k in x["evaluation"]))
    figure, panels = pyplot.subplots(
        1,
        max(1, len(names)),
        figsize=(4.5 * max(1, len(names)), 3.6),
        squeeze=False,
        layout="tight",
    )
    for panel, name in zip(panels[0], names, strict=False):
        for label, lines in measured.items():
            points = [(x["step"], x["evaluation"][name]) for x in lines if name in x["evaluation"]]
            panel.plot(*zip(*points, strict=True), label=label, marker=".")
        if name in teacher:
            panel.axhline(teacher[name], color="grey", linestyle="--", label="teacher")
        panel.set(xlabel="step", title=f"held-out {name.replace('_', ' ')}")
        panel.grid(alpha=0.3)
    panels[0][0].legend(frameon=False)
    with files.writing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot.close(figure)
    return Path(path)
