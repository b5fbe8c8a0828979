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

from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path

from minidistil.cli.reproduce.row_problems import problems
from minidistil.io.files import MissingFileError, read_settings, write_json
from minidistil.io.limits import several, short

ROWS, PROMISE = files(__package__) / "rows", "promise"
KINDS = {str: "a text", list: "a list", dict: "an object", bool: "true or false"}


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


def read_row(name: str) -> ResultsRow:
    """A row by its name, or by the path of its file. Raises MissingFileError or ValueError, also
    for what would fail only after a training, such as a placeholder that stands for nothing."""
    row = _parsed(name)
    for problem in problems(row, [_parsed(other) for other in row.needs]):
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
