"""Runs the stages of a row, each in a folder of its own, and measures their models.

A finished stage is not run again, and an unfinished one is resumed, so that a reproduction that was
interrupted continues when it is started again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

from minidistil.cli.quantize import stored_bytes
from minidistil.cli.reproduce.placeholders import filled, placeholders
from minidistil.cli.reproduce.row_file import ResultsRow, Stage
from minidistil.io.console import progress
from minidistil.io.energy import Energy
from minidistil.io.files import folder_made, read_json, remove, write_json
from minidistil.io.limits import several
from minidistil.model.checkpoint import SCALE, stored_in

BUDGETS = ("--tokens", "--steps")  # what --quick divides
TENTH = 10
MEASURED = "measured.json"
MADE_BY = ("command", "after")  # of a stage's record: its command, and those of what it starts from


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
    data; needed: (row, its folder) of rows that were run before. Of each model: the numbers of
    `measure`, parameters, bytes on disk, joules and seconds of its training. Raises ValueError for
    folders of other commands, before anything is run, and for a metric that is not measured.
    """
    runs, found = runs_of(row, quick), {}
    share = TENTH if quick else 1
    stages = [(stage, folder) for one, folder in (*needed, (row, out)) for stage in one.stages]
    others = {name: made for one, _ in needed for name, made in commands_of(one, quick, {}).items()}
    commands = commands_of(row, quick, others)
    _check_made_by(out, {_folder(*run): commands[run[0].name] for run in runs if run[0].command})
    with progress(None, out.name, total=sum(stage.minutes for stage, _ in runs) / share) as bar:
        for stage, seed in runs:
            bar.set_postfix_str(stage.name if seed is None else f"{stage.name}, seed {seed}")
            here = names | {"seed": seed}
            here |= {other.name: model_of(other, seed, at, names) for other, at in stages}
            if stage.command:
                _run(out / _folder(stage, seed), commands[stage.name], here, answer)
            if row.measure:
                numbers = _measured(row, stage, out / _folder(stage, seed), here, answer)
                found.setdefault(stage.name, {})["-" if seed is None else str(seed)] = numbers
            bar.update(stage.minutes / share)
    return found


def model_of(stage: Stage, seed: int | None, out: Path, names: dict) -> Path:
    """The folder of a stage's model, of a seed if the stage is repeated. out: of its row."""
    return Path(filled(stage.model, names)) if stage.model else out / _folder(stage, seed)


def commands_of(row: ResultsRow, quick: bool, needed: Mapping) -> dict[str, list[str]]:
    """{stage: the commands that make its model: those of stages that it starts from, then its own}.
    needed: the same of the rows that the row needs."""
    found = dict(needed)
    for stage in sorted(row.stages, key=lambda stage: stage.seeds):  # in the order of `runs_of`
        words = (stage.command or stage.model).split()
        start = [one for name in placeholders(stage.command) for one in found.get(name, ())]
        own = " ".join(_tenth(words) if quick else words)
        found[stage.name] = [*dict.fromkeys([*start, own])]
    return found


def _measured(row, stage, folder, names, answer):
    """The numbers of a stage's model, which are kept in the stage's folder with the command that
    measured them. Raises ValueError where the row's metric is not among them."""
    model, file = names[stage.name], folder / MEASURED
    command = [*row.measure.split(), "--model", stage.model or f"{{{stage.name}}}"]
    if not file.is_file() or read_json(file).get("command") != command:
        write_json(file, answer(_filled(command, names)) | {"command": command})
    found = read_json(file)
    if row.metric not in found:
        known = several(name for name in found if name != "command")
        raise ValueError(
            f"{row.path}: metric is {row.metric!r}; choose of what is measured: {known}"
        )
    training = _kept(folder) if stage.command else {}
    numbers = found | training | {"bytes": stored_bytes(model)}
    numbers["parameters"] = sum(
        prod(tensor.shape) for name, tensor in stored_in(model).items() if not name.endswith(SCALE)
    )
    return {name: value for name, value in numbers.items() if name not in MADE_BY}


def _folder(stage, seed):
    return f"{stage.name}-{seed}" if stage.seeds else stage.name


def _check_made_by(out, commands):
    """{a folder in out: commands of its stage}: raise ValueError for folders of other commands."""
    wrong, was = [], ""
    for name, now in commands.items():
        if kept := _kept(out / name):
            before = [*kept.get("after", ()), " ".join(kept["command"])]
            if before != now:
                wrong.append(name)
                was = was or next((one for one in before if one not in now), before[-1])
    if wrong:
        raise ValueError(
            f"in {out}, {several(wrong)} come from another command than the row has now, {was}; "
            f"remove these folders, or give another --out"
        )


def _run(folder, commands, names, answer):
    """Run or resume the last of the commands, unless its model is there.

    A file beside the folder keeps the commands as the row has them, without the paths of a machine,
    and the energy, which is added up when it is resumed.
    """
    if (folder / "config.json").is_file() and (folder / "report.json").is_file():
        return
    *after, own = commands
    file, (name, *words) = _record_of(folder), own.split()
    kept = _kept(folder) or {"command": [name, *words], "joules": 0.0, "seconds": 0.0}
    if after:
        kept["after"] = after
    resumed = (folder / "run.json").is_file()
    options = ["--resume"] if resumed else _filled(words, names)
    used, began = Energy(), time.perf_counter()
    with folder_made(folder.parent):
        write_json(file, kept)  # at once: a process that is killed leaves its checkpoints
        try:
            with used:
                answer([name, *options, "--out", str(folder)])
        finally:
            kept["joules"] += used.joules
            kept["seconds"] += time.perf_counter() - began
            write_json(file, kept | {"energy": used.source})
            if not folder.is_dir():  # the command was refused
                remove(file)


def _kept(folder):
    """The record of a stage; empty where it has no folder."""
    file = _record_of(folder)
    return read_json(file) if folder.is_dir() and file.is_file() else {}


def _record_of(folder):
    return folder.with_name(f"{folder.name}.stage.json")


def _filled(words, names):
    """A command's words, with what its placeholders stand for. A path may hold spaces."""
    return [filled(word, names) for word in words]


def _tenth(words):
    """The command with a tenth of its budget."""
    after = zip(("", *words), words, strict=False)
    return [str(max(1, int(word) // TENTH)) if before in BUDGETS else word
            for before, word in after]  # fmt: skip
