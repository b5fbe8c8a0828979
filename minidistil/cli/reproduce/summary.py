"""The measured numbers of a row as one line for each of its models."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from minidistil.cli.reproduce.row_file import ResultsRow


@dataclass(frozen=True)
class Summary:
    """The numbers of a model over its seeds; those of size and energy are medians, too.

    kept: the share of the teacher's metric, NaN where that is 0. times (as fast as the teacher) and
    joules (of a thousand sentences) are None where speeds were not measured, training (joules) and
    seconds where the model was not trained here.
    """

    name: str
    median: float
    low: float
    high: float
    seeds: int
    kept: float
    parameters: int | None
    bytes: int
    training: float | None
    seconds: float | None
    times: float | None
    joules: float | None

    @property
    def shown(self) -> str:
        """The name as a table has it."""
        return self.name.replace("-", " ")


def summaries(row: ResultsRow, result: Mapping) -> list[Summary]:
    """The models of {"stages": {name: {seed: numbers}}, "speed": …}, in order. The first is the
    teacher."""
    found, teacher = [], None
    for name, by_seed in result["stages"].items():
        numbers, speed = list(by_seed.values()), result.get("speed", {}).get(name, {})
        values = [one[row.metric] for one in numbers]
        middle = statistics.median(values)
        teacher = middle if teacher is None else teacher
        kept = middle / teacher if teacher else math.nan
        found.append(Summary(
            name, middle, min(values), max(values), len(values), kept,
            _median(numbers, "parameters"), _median(numbers, "bytes"), _median(numbers, "joules"),
            _median(numbers, "seconds"), speed.get("times"), speed.get("joules"),
        ))  # fmt: skip
    return found


def by_share(row: ResultsRow, result: Mapping) -> dict[float, list[Summary]]:
    """{share of the labels: its models} of a row whose stages are repeated over shares."""
    return {float(share): summaries(row, one) for share, one in result["shares"].items()}


def parts_of(result: Mapping) -> list[tuple[str | None, Mapping]]:
    """[(share of the labels, its part of a result)]; (None, result) where there are no shares."""
    return list(result.get("shares", {None: result}).items())


def energy_sources(result: Mapping) -> list[str]:
    """Where the joules of a result come from, such as "RAPL"."""
    parts = [part for _, part in parts_of(result)]
    runs = [one for part in parts for seeds in part["stages"].values() for one in seeds.values()]
    sources = [one.get("energy") for one in (*runs, *result.get("speed", {}).values())]
    return list(dict.fromkeys(source for source in sources if source))


def away(now: Summary, stored: Summary) -> float:
    """How far a median is above the stored range: negative below it, 0 within it.

    The range of one seed is its number.
    """
    return max(now.median - stored.high, 0.0) + min(now.median - stored.low, 0.0)


def _median(numbers, name):
    values = [one[name] for one in numbers if name in one]
    return statistics.median_low(values) if values else None
