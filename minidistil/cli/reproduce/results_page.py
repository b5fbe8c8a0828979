"""The page of results, made from the rows' files: results.md, and its pictures beside it.

The page has no number and no sentence on one that is not in a row's file, so that it is the same
whenever it is made from the same rows.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from minidistil.cli.reproduce.paper_section import paper_section
from minidistil.cli.reproduce.promise import (
    Promise,
    claims,
    kept_by,
    macro_average,
    measured_in,
)
from minidistil.cli.reproduce.results_pictures import draw_kept, draw_labels, is_results_picture
from minidistil.cli.reproduce.row_file import ResultsRow
from minidistil.cli.reproduce.row_section import cell, markdown, percent, points, row_section, span
from minidistil.cli.reproduce.summary import Summary, by_share, summaries
from minidistil.io import files
from minidistil.io.outputs import check_file

PAGE, KEPT, LABELS = "results.md", "results-kept.png", "results-labels.png"
TEACHER, DISTILLED, TWO_STAGE = "teacher", "distilled", "two-stage"
YES, EVERY, NO = "yes", "yes, every seed", "no"
ALONE = ("same-start", "random-start")  # they learn from the labels alone
MADE = "<!-- made by `minidistil reproduce --page` -->"
INTRODUCTION = f"""\
{MADE}
# Results

A teacher and its students on each task. Training and the choice of settings use the training data,
of which a part is held out to choose by; what is reported is measured on other data: the test set,
or GLUE's development set, because its test set has no public labels. One choice began with measured
data: four layers for two tasks ([why](#60--smaller-60--faster-97--kept)). A number is the median
over the seeds; *range* is the least and the largest value, *kept* the share of the teacher's
metric.

MiniLM is [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), a BERT
of six layers, 384 wide, that learnt from a billion pairs of sentences which ones belong together.

`minidistil reproduce NAME` runs a row again, from its data to its table, and compares the numbers
with those stored here; `--quick` takes a tenth of the steps. Settings and results are one file for
each row in [minidistil/cli/reproduce/rows](../minidistil/cli/reproduce/rows), from which
`minidistil reproduce --page notebooks` makes this page. Other tasks, with one seed and minutes of
training: [other results](other_results.md)."""
MEANINGS = {
    TEACHER: "is fine-tuned on the labels",
    DISTILLED: "learns from the teacher's outputs and the labels",
    "same-start": "starts as some of the teacher's layers and learns from the labels alone",
    "random-start": "starts as random weights and learns from the labels alone",
    "no-labels": "learns from the teacher's answers alone, to texts without labels; the distilled "
    "students of MRPC and XQuAD start as it",
    TWO_STAGE: "learns as the distilled one, but starts as the student of the row `general`",
    "small": "is a distilled student without the word vectors that the training texts use least",
    "int8": "is a distilled student with its matrices in int8",
}
AVERAGE = """\
The last line has the means of the medians, and what the distilled students' mean keeps. In the last
column *yes* compares medians; with *every seed*, the worst distilled student is better than the
best that learnt from labels alone."""
PROMISED = """\
Articles often say this of DistilBERT; the paper says 40 % smaller ([facts](appendix_facts.ipynb)).
`minidistil reproduce promise` checks it on every task that has the student of this table:"""
FEW = """\
A teacher that has seen a share of the labels answers all texts, and its student learns from that;
beside it the same start, on the labels of the share alone. The labels of a share are drawn once and
its teacher is trained once: the range, in brackets and as a band, is over the students' seeds."""
COMMANDS = """\
In the commands, {train} and {test} are the files of the data, {dev} what is held out if that is a
file of its own, {texts} the training texts without labels, {few} those whose labels are known,
{questions} those made of Wikipedia's sentences, {pairs} unlabelled ones of MRPC's test set and of
other tasks, {minilm} is MiniLM, {weights} the teacher that comes with minidistil, {seed} the seed,
and {NAME} the model NAME of the table, of the same seed. Energy of training is that of the model's
own command, without those of the models that it starts from; the answers of a teacher that are
stored (--cache-teacher) are computed by the first seed. Speed and energy of reading are those of 32
sentences of uneven lengths (SST-2's); the models read them in turns. Until 2026-11-30 energy was
measured one model after another, on a shared machine, so that it differs by up to a third between
models of one size. It comes from the processor's counters (RAPL), or else from processor time and
an assumed power of a busy core, as each row says. The commit of a row is that of its recording;
some of its models were trained on the commits before."""


def write(rows: Sequence[ResultsRow], promise: Promise, folder: Path) -> Path:
    """Write the page of the rows and its pictures into a folder; returns the page's path.

    Raises ImportError without matplotlib, ValueError where another page or picture would be lost.
    """
    tasks, curves = of_tasks(rows), label_curves(rows)
    check_file(folder / PAGE, "a page of results", is_results_page)
    for picture in (KEPT, LABELS):
        check_file(folder / picture, "a picture of this page", is_results_picture)
    if tasks:
        draw_kept(folder / KEPT, [found for _, found in tasks])
    if curves:
        draw_labels(folder / LABELS, curves)
    files.write_text(folder / PAGE, page(rows, promise))
    return folder / PAGE


def is_results_page(path: Path) -> bool:
    """Whether a file is a page that this command wrote."""
    return path.read_bytes().startswith(MADE.encode())


def page(rows: Sequence[ResultsRow], promise: Promise) -> str:
    """The page as Markdown. Rows without results are left out, unless others need them."""
    measured = [row for row in rows if "full" in row.results]
    needed = {name for row in measured for name in row.needs}
    parts = [INTRODUCTION]
    if tasks := of_tasks(rows):
        parts += _tasks(tasks)
    kept = [(row, row.results["full"]) for row in measured if measured_in(row, "full", promise)]
    if kept:
        parts += _promise(promise, kept_by(promise, kept))
    if curves := label_curves(rows):
        parts += _labels(curves)
    parts += paper_section(rows)
    shown = [row for row in rows if row in measured or row.name in needed]
    if shown:
        parts += ["## Rows", COMMANDS, *map(row_section, shown)]
    return "\n\n".join(parts) + "\n"


def of_tasks(rows: Sequence[ResultsRow]) -> list[tuple[ResultsRow, list[Summary]]]:
    """(row, its models) of the rows that have a distilled student."""
    tasks = []
    for row in rows:
        if "full" in row.results and not row.shares:
            found = summaries(row, row.results["full"])
            if any(s.name == DISTILLED for s in found):
                tasks.append((row, found))
    return tasks


def label_curves(rows: Sequence[ResultsRow]) -> list[tuple]:
    """(row, {share: its models}) of the rows that are repeated over shares of the labels."""
    measured = (row for row in rows if row.shares and "full" in row.results)
    return [(row, by_share(row, row.results["full"])) for row in measured]


def _labels(curves):
    """The picture, and for each row a table with a line for each share."""
    parts = ["## Few labels", FEW, f"![The metric over the share of the labels]({LABELS})"]
    for row, by in curves:
        header = ["labels known", *(s.shown for s in next(iter(by.values())))]
        lines = [[percent(share), *map(_with_span, found)] for share, found in sorted(by.items())]
        parts += [f"[{row.use}](#{row.name}), {row.metric}:", markdown(header, lines)]
    return parts


def _with_span(s):
    return f"{points(s)} ({span(s)})" if s.seeds > 1 else points(s)


def _tasks(tasks):
    """The table with a line for each task, and the picture of what is kept."""
    shown = {s.name: s.shown for _, found in tasks for s in found}
    kinds = [kind for kind in (TEACHER, DISTILLED, TWO_STAGE, *ALONE) if kind in shown]
    lines = [_task_line(row, {s.name: s for s in found}, kinds) for row, found in tasks]
    better = [line[-1] != NO for line in lines]
    lines.append([*_averages(tasks, kinds), f"{sum(better)} of {len(better)}"])
    names = [f"{shown[kind]}{', labels alone' * (kind in ALONE)}" for kind in kinds]
    header = ["task", "metric", *names, "kept by distilled", "distilled above labels alone"]
    meanings = [f"* **{shown[kind]}** {MEANINGS[kind]}" for kind in shown if kind in MEANINGS]
    return [
        "## Tasks", markdown(header, lines, words=2), AVERAGE, "\n".join(meanings),
        f"![Share of the teacher's metric that a student keeps, against size and speed]({KEPT})",
    ]  # fmt: skip


def _task_line(row, of, kinds):
    """A task's medians, and whether the distilled student is above those without a teacher."""
    distilled, alone = of[DISTILLED], [of[kind] for kind in ALONE if kind in of]
    above = YES if distilled.median > max(s.median for s in alone) else NO
    if distilled.low > max(s.high for s in alone):
        above = EVERY
    return [f"[{row.use}](#{row.name})", row.metric, *(points(of.get(kind)) for kind in kinds),
            percent(distilled.kept, 1), above]  # fmt: skip


def _averages(tasks, kinds):
    """The line of the macro average, without its last cell."""
    medians = {kind: [s.median for _, found in tasks for s in found if s.name == kind]
               for kind in kinds}  # fmt: skip
    means = {kind: fmean(values) for kind, values in medians.items() if len(values) == len(tasks)}
    return ["macro average", "", *(cell(means.get(kind), 100) for kind in kinds),
            percent(means[DISTILLED] / means[TEACHER], 1)]  # fmt: skip


def _promise(promise, found):
    """Whether the promise holds, and its student on each task."""
    lines = [[
        f"[{one.row.use}](#{one.row.name})", points(one.teacher), points(one.student),
        percent(one.student.kept, 1), percent(one.smaller, 1), cell(one.student.times, 1, 2),
    ] for one in found]  # fmt: skip
    lines.append(["macro average", cell(fmean(one.teacher.median for one in found), 100),
                  cell(fmean(one.student.median for one in found), 100),
                  percent(macro_average(found), 1), "", ""])  # fmt: skip
    header = ["task", "teacher", promise.student, "kept", "fewer bytes", "times as fast"]
    checked = "\n".join(
        f"* **{claim.promised}: {'yes' if claim.holds else 'no'}**, {claim.measured}"
        for claim in claims(promise, found)
    )
    notes = "\n\n".join(promise.notes)
    return ["## 60 % smaller, 60 % faster, 97 % kept", PROMISED, checked, notes,
            markdown(header, lines)]  # fmt: skip
