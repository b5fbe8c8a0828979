"""Run one row of the results again, from data to table, and compare with the stored numbers.

A row is a teacher and its students on one data set: commands of minidistil with their settings,
some repeated for several seeds. Students are measured on data that no training and no choice has
used. What is finished is kept in --out, so that a reproduction that was interrupted continues where
it stopped. --quick trains the first seed for a tenth of the steps. `promise` runs every row that
has the small student and says whether it is 60 % smaller, 60 % faster, and keeps 97 %. Without NAME
the rows are listed, with about how long each takes.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from minidistil.cli.reproduce.answer_text import compared, promise_answer, row_text
from minidistil.cli.reproduce.promise import has_student, kept_by, measured_in, read_promise
from minidistil.cli.reproduce.results_page import PAGE, write
from minidistil.cli.reproduce.row_file import PROMISE, names, read_row
from minidistil.cli.reproduce.run_row import MINILM, Settings, default_folder, result_of
from minidistil.cli.reproduce.stages import minutes_of
from minidistil.io.console import Answer

EXAMPLE = "trec --quick --data ~/data"
RUNNING = ("quick", "record", "out", "minilm", "threads")  # options that are for running a row
AGAIN = "the same command again continues: what is finished is not run twice"


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
    parser.add_argument(
        "--out", metavar="DIR",
        help="default: runs/reproduce/NAME; other rows that are needed are beside it",
    )  # fmt: skip
    parser.add_argument(
        "--record", action="store_true", help="write the numbers into the row's file"
    )
    parser.add_argument(
        "--stored", action="store_true", help="run nothing: show the numbers of the row's file"
    )
    parser.add_argument(
        "--page", metavar="FOLDER",
        help=f"write the page of results, {PAGE}, with pictures, from the rows' stored numbers",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores")


def run(args):
    _refuse_ignored(args)
    if args.page is not None:
        if args.name is not None:
            raise ValueError(f"--page is made of all rows, not of {args.name} alone; leave it out")
        if find_spec("matplotlib") is None:
            raise ModuleNotFoundError("--page needs matplotlib: pip install 'minidistil[demo]'")
        path = write(_rows(), read_promise(), Path(args.page))
        return Answer({"page": str(path)}, str(path))
    if args.name is None:
        listed = [(row.name, f"{minutes_of(row, False):.0f}", row.use) for row in _rows()]
        listed.append((PROMISE, "", read_promise().use))
        width = max(len(name) for name, _, _ in listed)
        lines = [f"{name:{width}}  {minutes:>7}  {use}"
                 for name, minutes, use in [("row", "minutes", "what"), *listed]]  # fmt: skip
        return Answer([name for name, _, _ in listed], "\n".join(lines))
    kind = "quick" if args.quick else "full"
    if args.name == PROMISE:
        return _promise(kind, args)
    row = read_row(args.name)
    out = _folder(args, row.name)
    result = _result(row, out, kind, args)
    if not result:
        return Answer({"out": str(out)}, f"{row.use}: {out}")
    data = result | {"compared": compared(row, kind, result)}
    return Answer(data, row_text(row, kind, result))


def _refuse_ignored(args):
    """Raise ValueError for an option that would change nothing."""
    if args.page is not None:
        why, ignored = "--page is made of the rows' stored full numbers", (*RUNNING, "stored")
    elif args.name is None:
        why, ignored = "without the NAME of a row all are listed", (*RUNNING, "stored")
    else:
        why, ignored = "--stored runs nothing", RUNNING[1:] if args.stored else ()
    for name in ignored:
        if getattr(args, name):
            raise ValueError(f"{why}; leave --{name} out")


def _folder(args, name):
    """--out, as an absolute path: other rows are beside it, also beside "."."""
    return Path(os.path.abspath(args.out or default_folder(name, args.quick)))


def _rows():
    return [read_row(name) for name in names()]


def _promise(kind, args):
    """Whether the promise holds over all rows that have its student."""
    promise, missing = read_promise(), []
    rows = [row for row in _rows() if has_student(row, promise)]
    if args.stored:
        missing = [row.name for row in rows if not measured_in(row, kind, promise)]
        rows = [row for row in rows if measured_in(row, kind, promise)]
    if not rows:
        raise ValueError(f"no row has a {kind} result of {promise.student}; leave out --stored")
    beside, results = _folder(args, PROMISE).parent, []
    for row in rows:
        out = beside / default_folder(row.name, args.quick).name
        results.append((row, _result(row, out, kind, args)))
    return promise_answer(promise, kept_by(promise, results), missing)


def _result(row, out, kind, args):
    """The result of a row: the stored one, or that of running it, which --record stores."""
    if args.stored:
        if kind not in row.results:
            raise ValueError(f"no {kind} result of {row.name} is stored; leave out --stored")
        return row.results[kind]
    rows = [row, *map(read_row, row.needs)]
    if args.data is None and any(one.data["folder"] for one in rows):
        raise ValueError("the data is missing; name its folder with --data, or in MINIDISTIL_DATA")
    how = Settings(Path(args.data or "."), args.minilm, args.quick, args.threads)
    try:
        result = result_of(row, out, how)
    except KeyboardInterrupt:
        print(AGAIN, file=sys.stderr)
        raise
    if args.record and result:
        row.store(kind, result)
    return result
