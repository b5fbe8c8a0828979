"""A row of the results: its settings and its measured numbers, in one file.

    use, metric    what the row is about, and the number that is compared, of `evaluate`
    data           folder: where the files lie below --data, "" for those of a package; source:
                   where to get them; prepare: a function of `prepared_data`
    seeds          of the stages that are repeated
    stages         one after another: name; command, or model: a folder that is measured as it is;
                   minutes: about how long it takes, for the bar; seeds: whether it is repeated
    measure        the command that measures a stage's model; the first stage is the teacher. A row
                   without it only makes models that other rows start from
    needs          rows that are run before this one
    shares         of the labels: all stages are repeated for each
    paper          what the paper reports: from (a stage) and points ({stage: its difference from
                   that one}), or kept ({stage: the share})
    notes, search  sentences for the page of results; and what was tried to choose settings:
                   [{"stage", "tried", "score"}], the score that of a part of the training data
    results        {"full": …, "quick": …}, as `--record` wrote them

In commands, {train}, {test} and other names stand for the prepared files, {few} for the training
texts with a share of the labels, {seed} for the seed, {minilm} for MiniLM, {weights} for the
teacher that comes with minidistil, and {NAME} for the folder of stage NAME, of the same seed if it
is repeated, or of a row that is needed. The stages that are not repeated are run first.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path

from minidistil.cli.reproduce.prepared_data import PREPARE, given_by
from minidistil.io.files import MissingFileError, read_settings, write_json
from minidistil.io.limits import several, short

ROWS, PROMISE = files(__package__) / "rows", "promise"
MAKERS = ("pretrain", "finetune", "distill", "quantize", "prune-vocabulary")  # commands of stages
MODELS = ("minilm", "weights")  # what a stage may start from, or have as its model
DATA = ("folder", "source", "prepare")
KINDS = {str: "a text", list: "a list", dict: "an object", bool: "true or false"}
PLACEHOLDER = re.compile(r"{(\S*?)}")


@dataclass(frozen=True)
class Stage:
    """A model of a row, and the command that makes it; minutes: about how long that takes."""

    name: str
    command: str = ""
    minutes: int | float = 0
    seeds: bool = False
    model: str = ""


@dataclass(frozen=True)
class ResultsRow:
    """A row's settings and results, as in its file."""

    use: str
    data: dict
    stages: list
    metric: str = ""
    measure: str = ""
    seeds: list = field(default_factory=list)
    needs: list = field(default_factory=list)
    shares: list = field(default_factory=list)
    paper: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    search: list = field(default_factory=list)
    results: dict = field(default_factory=dict)
    path: Path | None = None

    @property
    def name(self) -> str:
        return self.path.stem

    def store(self, kind: str, found: dict) -> None:
        """Write the results of a kind, "full" or "quick", into the row's file."""
        kept = _given(self) | {"stages": [_given(stage) for stage in self.stages]}
        del kept["path"]
        write_json(self.path, kept | {"results": self.results | {kind: found}})


def _given(settings):
    """The fields of a dataclass that are not empty."""
    return {f.name: v for f in fields(settings) if (v := getattr(settings, f.name))}


def names() -> list[str]:
    """The rows that come with the package. The promise, in their folder, is about all of them."""
    found = sorted(path.name.removesuffix(".json") for path in ROWS.iterdir())
    return [name for name in found if name != PROMISE]


def placeholders(command: str) -> list[str]:
    """The names in braces in a command."""
    return PLACEHOLDER.findall(command)


def filled(word: str, names: Mapping) -> str:
    """A word of a command, with what its placeholders stand for."""
    return PLACEHOLDER.sub(lambda found: str(names[found[1]]), word)


def read_row(name: str) -> ResultsRow:
    """A row by its name, or by the path of its file. Raises MissingFileError or ValueError, also
    for what would fail only after a training, such as a placeholder that stands for nothing."""
    row = _parsed(name)
    for problem in _problems(row, [_parsed(other) for other in row.needs]):
        raise ValueError(f"{row.path}: {problem}")
    return row


def _parsed(name):
    path = Path(name) if name.endswith(".json") else Path(str(ROWS / f"{name}.json"))
    if not path.is_file():
        raise MissingFileError(
            f"there is no row {name!r}; choose {', '.join(names())}, or give a row's .json file"
        )
    found = read_settings(path)
    try:
        stages = [Stage(**stage) for stage in found.pop("stages")]
        row = ResultsRow(**found, stages=stages, path=path)
    except (TypeError, KeyError) as error:
        known = several([name for name in ResultsRow.__dataclass_fields__ if name != "path"])
        raise ValueError(f"{path} is no row ({error}); its fields are {known}") from None
    for part in (row, *stages):
        for one in fields(part):
            value, kind = getattr(part, one.name), KINDS.get(one.type, "a number")
            if not isinstance(value, one.type):
                raise ValueError(f"{path}: {one.name} is {kind}, not {short(value)}")
    return row


def _problems(row, others) -> Iterator[str]:
    """What is wrong with a row, and what is right. others: the rows that it needs."""
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
        if stage.command and not stage.command.startswith(tuple(f"{one} " for one in MAKERS)):
            name = short(stage.command.partition(" ")[0])
            yield f"the command of stage {stage.name!r} is {name}; choose {', '.join(MAKERS)}"


def _commands(row, others):
    """(where it stands, a command, the names that it may have in braces) for each of a row."""
    known = {*given_by(row.data["prepare"]), *MODELS} | ({"few"} if row.shares else set())
    yield "measure", row.measure, known
    left = sorted(row.stages, key=lambda stage: stage.seeds)  # in the order in which they are run
    made = [stage for other in others for stage in other.stages]
    while left:
        here, own = left[0], {stage.name for stage in left}
        before = {one.name for one in made if here.seeds or not one.seeds} - own
        names = known | before | {"seed"} if here.seeds else known | before
        yield f"the command of stage {here.name!r}", here.command, names
        yield f"the model of stage {here.name!r}", here.model, set(MODELS)
        made.append(left.pop(0))
