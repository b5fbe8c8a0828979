"""Checks of a row before it is run: each finds what would fail only after a training."""

import re
from collections.abc import Iterator

from minidistil.cli.reproduce.placeholders import placeholders
from minidistil.cli.reproduce.prepared_data import PREPARE, given_by
from minidistil.io.limits import short

MAKERS = ("pretrain", "finetune", "distill", "quantize", "prune-vocabulary")  # commands of stages
MODELS = ("minilm", "weights")  # what a stage may start from, or have as its model
DATA = ("folder", "source", "prepare")


def problems(row, others) -> Iterator[str]:
    """One line for each fault of a row: the rule, the value, the remedy. others: the rows that it
    needs. A check may assume that those before it found nothing."""
    names, repeats = [stage.name for stage in row.stages], any(s.seeds for s in row.stages)
    if missing := [name for name in DATA if not isinstance(row.data.get(name), str)]:
        yield f"data has the texts {', '.join(DATA)}; {missing[0]} is missing"
    if row.data["prepare"] not in PREPARE:
        yield f"prepare is {row.data['prepare']!r}; choose {', '.join(PREPARE)}"
    if not names:
        yield "stages is empty; give at least one, the teacher"
    taken = {"data", "seed", "few", *MODELS, *given_by(row.data["prepare"])}
    for name in names:
        if name in taken or not re.fullmatch(r"\w[\w.-]*", name):
            yield f"a stage is called {name!r}; choose letters and digits, and no word of the data"
    if twice := next((name for name in names if names.count(name) > 1), ""):
        yield f"two stages are called {twice!r}; rename one"
    if repeats and not row.seeds:
        yield "a stage is repeated, but seeds is empty; give some, such as [0, 1, 2]"
    if row.measure and not row.metric:
        yield "measure is given without metric; name the number that is compared"
    if row.measure and row.measure.split()[:1] != ["evaluate"]:
        yield f"measure is {row.measure!r}; the command that measures is evaluate"
    if row.shares and not row.measure:
        yield "shares is given without measure; give the command that measures"
    for share in row.shares:
        if not isinstance(share, int | float) or not 0 < share <= 1:
            yield f"a share of the labels is above 0 and at most 1, not {short(share)}"
    for other in others:
        if other.needs or other.shares:
            yield f"needs {other.name}, which has needs or shares itself; need a row without"
        same = other.seeds[: len(row.seeds)] == row.seeds
        if repeats and not same and any(stage.seeds for stage in other.stages):
            yield f"seeds is {row.seeds}, but {other.seeds} in {other.name}; let both begin alike"
    for place, text, known in _commands(row, others):
        if unknown := [name for name in placeholders(text) if name not in known]:
            yield f"{place} has {{{unknown[0]}}}; it may have {', '.join(sorted(known))}"
    for stage in row.stages:
        if bool(stage.command) == bool(stage.model):
            yield f"stage {stage.name!r} has a command or a model; give one of the two"
        name = stage.command.partition(" ")[0]
        if stage.command and name not in MAKERS:
            yield (
                f"the command of stage {stage.name!r} is {short(name)}; choose {', '.join(MAKERS)}"
            )


def _commands(row, others):
    """(where it stands, a command, the names that it may have in braces) for each of a row."""
    known = {*given_by(row.data["prepare"]), *MODELS} | ({"few"} if row.shares else set())
    yield "measure", row.measure, known
    order = sorted(row.stages, key=lambda stage: stage.seeds)  # in which they are run
    made = [stage for other in others for stage in other.stages]
    for i, here in enumerate(order):
        not_yet = {stage.name for stage in order[i:]}
        before = {one.name for one in made if here.seeds or not one.seeds} - not_yet
        names = known | before | {"seed"} if here.seeds else known | before
        yield f"the command of stage {here.name!r}", here.command, names
        yield f"the model of stage {here.name!r}", here.model, set(MODELS)
        made.append(here)
