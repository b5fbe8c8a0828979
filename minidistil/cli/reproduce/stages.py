"""Runs the stages of a row, each in a folder of its own, and measures their models.

A finished stage is not run again, and an unfinished one is resumed, so that a reproduction that was
interrupted continues when it is started again.
"""

import time
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

from minidistil.cli.quantize import stored_bytes
from minidistil.cli.reproduce.row_file import ResultsRow, Stage
from minidistil.io.console import progress
from minidistil.io.energy import Energy
from minidistil.io.files import read_json, write_json
from minidistil.model.checkpoint import SCALE, stored_in

BUDGETS = ("--tokens", "--steps")  # what --quick divides
TENTH = 10
MEASURED = "measured.json"


def runs_of(row: ResultsRow, quick: bool) -> list[tuple]:
    """(stage, seed) in order; the seed is None for a stage that is not repeated. The stages of one
    seed follow each other."""
    seeds = row.seeds[:1] if quick else row.seeds
    once = [(stage, None) for stage in row.stages if not stage.seeds]
    return once + [(stage, seed) for seed in seeds for stage in row.stages if stage.seeds]


def minutes_of(row: ResultsRow, quick: bool) -> float:
    """About how long a row takes, without the rows that it needs."""
    minutes = sum(stage.minutes for stage, _ in runs_of(row, quick)) / (TENTH if quick else 1)
    return minutes * max(1, len(row.shares))


def run_stages(
    row: ResultsRow, out: Path, names: dict, quick: bool, answer: Callable, needed: Sequence = ()
) -> dict:
    """{stage: {seed: its numbers}}, with "-" as the seed of a stage that is not repeated.

    names: what placeholders of commands stand for; answer(argv): runs a command and returns its
    data; needed: (stage, the folder of its row) of rows that were run before. Of each model: the
    numbers of `measure`, parameters, bytes on disk, joules and seconds of its training.
    """
    runs, found = runs_of(row, quick), {}
    share = TENTH if quick else 1
    stages = [*needed, *((stage, out) for stage in row.stages)]
    with progress(None, out.name, total=sum(stage.minutes for stage, _ in runs) / share) as bar:
        for stage, seed in runs:
            bar.set_postfix_str(stage.name if seed is None else f"{stage.name}, seed {seed}")
            here = names | {"seed": seed}
            here |= {other.name: model_of(other, seed, at, names) for other, at in stages}
            if stage.command:
                _run(stage, out / _folder(stage, seed), here, quick, answer)
            if row.measure:
                numbers = _measured(row, here[stage.name], out / _folder(stage, seed), here, answer)
                found.setdefault(stage.name, {})["-" if seed is None else str(seed)] = numbers
            bar.update(stage.minutes / share)
    return found


def model_of(stage: Stage, seed: int | None, out: Path, names: dict) -> Path:
    """The folder of a stage's model, of a seed if the stage is repeated. out: of its row."""
    return Path(stage.model.format(**names)) if stage.model else out / _folder(stage, seed)


def _measured(row, model, folder, names, answer):
    """The numbers of a stage's model, which are kept in the stage's folder."""
    if not (folder / MEASURED).is_file():
        measure = [*_filled(row.measure.split(), names), "--model", str(model)]
        write_json(folder / MEASURED, answer(measure))
    record = _record_of(folder)
    training = read_json(record) if record.is_file() else {}
    numbers = read_json(folder / MEASURED) | training | {"bytes": stored_bytes(model)}
    numbers["parameters"] = sum(
        prod(tensor.shape) for name, tensor in stored_in(model).items() if not name.endswith(SCALE)
    )
    return {name: value for name, value in numbers.items() if name != "command"}


def _folder(stage, seed):
    return f"{stage.name}-{seed}" if stage.seeds else stage.name


def _run(stage, folder, names, quick, answer):
    """Run or resume a command, unless its model is there.

    A file beside the folder keeps the command as the row has it, without the paths of a machine,
    and its energy, which is added up when it is resumed. Raises ValueError where the folder is of
    another command.
    """
    words = stage.command.split()
    words = _tenth(words) if quick else words
    file, kept = _record_of(folder), {"command": words, "joules": 0.0, "seconds": 0.0}
    if folder.is_dir() and file.is_file():
        kept = read_json(file)
        if kept["command"] != words:
            raise ValueError(
                f"{folder} was made by another command, {' '.join(kept['command'])}; remove it, or "
                f"give another --out"
            )
    if (folder / "config.json").is_file() and (folder / "report.json").is_file():
        return
    resumed = (folder / "run.json").is_file()
    options = ["--resume"] if resumed else _filled(words[1:], names)
    used, began = Energy(), time.perf_counter()
    try:
        with used:
            answer([words[0], *options, "--out", str(folder)])
    finally:
        seconds = time.perf_counter() - began
        for name, more in (("joules", used.joules), ("seconds", seconds)):
            kept[name] = kept.get(name, 0.0) + more
        write_json(file, kept | {"energy": used.source})


def _record_of(folder):
    return folder.with_name(f"{folder.name}.stage.json")


def _filled(words, names):
    """A command's words, with what its placeholders stand for. A path may hold spaces."""
    return [word.format(**names) for word in words]


def _tenth(words):
    """The command with a tenth of its budget."""
    after = zip(("", *words), words, strict=False)
    return [str(max(1, int(word) // TENTH)) if before in BUDGETS else word
            for before, word in after]  # fmt: skip
