"""Runs the stages of a row, each in a folder of its own, and measures their models.

A finished stage is not run again, and an unfinished one is resumed, so that a reproduction that was
interrupted continues when it is started again.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

from minidistil.cli.quantize import stored_bytes
from minidistil.cli.reproduce.row_file import ResultsRow
from minidistil.io.console import progress
from minidistil.io.energy import Energy
from minidistil.io.files import read_json, write_json

BUDGETS = ("--tokens", "--steps")  # what --quick divides
TENTH = 10
MEASURED = "measured.json"


def runs_of(row: ResultsRow, quick: bool) -> list[tuple]:
    """(stage, seed) in order; the seed is None for a stage that is not repeated. The stages of one
    seed follow each other."""
    seeds = row.seeds[:1] if quick else row.seeds
    once = [(stage, None) for stage in row.stages if not stage.seeds]
    return once + [(stage, seed) for seed in seeds for stage in row.stages if stage.seeds]


def run_stages(row: ResultsRow, out: Path, names: dict, quick: bool, answer: Callable) -> dict:
    """{stage: {seed: its numbers}}, with "-" as the seed of a stage that is not repeated.

    names: what placeholders of commands stand for; answer(argv): runs a command and returns its
    data. Of each model: the numbers of `measure`, bytes on disk, joules of its training.
    """
    runs, found = runs_of(row, quick), {}
    share = TENTH if quick else 1
    with progress(None, row.name, total=sum(stage.minutes for stage, _ in runs) / share) as bar:
        for stage, seed in runs:
            bar.set_postfix_str(stage.name if seed is None else f"{stage.name}, seed {seed}")
            folder = out / _folder(stage, seed)
            here = names | {"seed": seed} | {
                other.name: out / _folder(other, seed) for other in row.stages
            }  # fmt: skip
            _run(stage, folder, here, quick, answer)
            if row.measure and not (folder / MEASURED).is_file():
                measure = [*_words(row.measure, here), "--model", str(folder)]
                numbers = answer(measure) | read_json(_record_of(folder))
                numbers["bytes"] = stored_bytes(folder)
                write_json(folder / MEASURED, numbers)
            if row.measure:
                numbers = read_json(folder / MEASURED)
                found.setdefault(stage.name, {})["-" if seed is None else str(seed)] = numbers
            bar.update(stage.minutes / share)
    return found


def median_and_range(numbers: dict, metric: str) -> tuple[float, float, float]:
    """{seed: numbers}  ->  the metric's median, least and largest value."""
    values = [one[metric] for one in numbers.values()]
    return statistics.median(values), min(values), max(values)


def _folder(stage, seed):
    return f"{stage.name}-{seed}" if stage.seeds else stage.name


def _run(stage, folder, names, quick, answer):
    """Run or resume a command, unless its model is there.

    A file beside the folder keeps the command and its energy, which is added up when it is resumed.
    Raises ValueError where the folder is of another command.
    """
    words = _words(stage.command, names)
    command = [*(_tenth(words) if quick else words), "--out", str(folder)]
    file, kept = _record_of(folder), {"command": command, "joules": 0.0}
    if file.is_file():
        kept = read_json(file)
        if kept["command"] != command:
            raise ValueError(
                f"{folder} was made by another command, {' '.join(kept['command'])}; remove it, or "
                f"give another --out"
            )
    if (folder / "config.json").is_file() and (folder / "report.json").is_file():
        return
    if (folder / "run.json").is_file():
        command = [command[0], "--resume", "--out", str(folder)]
    used = Energy()
    try:
        with used:
            answer(command)
    finally:
        write_json(file, kept | {"joules": kept["joules"] + used.joules, "energy": used.source})


def _record_of(folder):
    return folder.with_name(f"{folder.name}.stage.json")


def _words(command, names):
    """A command's words, with what its placeholders stand for. A path may hold spaces."""
    return [word.format(**names) for word in command.split()]


def _tenth(words):
    """The command with a tenth of its budget."""
    after = zip(("", *words), words, strict=False)
    return [str(max(1, int(word) // TENTH)) if before in BUDGETS else word
            for before, word in after]  # fmt: skip
