"""`--lr search`: the learning rate of a run from short runs, with their losses and a picture."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from minidistil.io import files
from minidistil.io.console import one_line
from minidistil.io.ranks import world
from minidistil.train.rate_search import FEWEST, search_rate
from minidistil.train.train_config import TrainConfig

SEARCH = "search"
RATES, PICTURE = "learning-rates.json", "learning-rates.png"  # in the run's folder


def learning_rate(text: str) -> float | str:
    """The value of --lr: a number, or SEARCH."""
    return SEARCH if text == SEARCH else float(text)


def with_rates(
    configs: dict[str, TrainConfig], args, run, objectives: dict, data, evaluate: Callable
) -> dict[str, TrainConfig]:  # fmt: skip
    """{name: config} and {name: objective} of the models of a run  ->  their configs with the rates
    that were found; unchanged without --lr search. A resumed run has the rates that it began with.
    """
    if args.lr != SEARCH:
        return configs
    path = Path(args.out) / RATES
    if run.resumed:
        found = files.read_json(path)
    else:
        found = {name: _search(name, objectives[name], data, configs[name], evaluate)
                 for name in configs}  # fmt: skip
        if world().rank == 0:
            files.write_json(path, found)
            draw(path.with_name(PICTURE), found)
        world().wait()
    return {n: dataclasses.replace(config, lr=found[n]["best"]) for n, config in configs.items()}


def with_rate(config: TrainConfig, args, run, objective, data, evaluate: Callable) -> TrainConfig:
    """As `with_rates`, for a run of one model."""
    name = "the model"
    return with_rates({name: config}, args, run, {name: objective}, data, evaluate)[name]


def _search(name, objective, data, config, evaluate):
    """The best rate, and [rate, held-out loss] of all; also printed to stderr."""
    best, losses = search_rate(objective, data, config, evaluate)
    if world().rank == 0:
        others = ", ".join(f"{rate:g}: {_shown(loss)}" for rate, loss in losses.items())
        end = {min(losses): "; none lower was tried", max(losses): "; none higher was tried"}
        print(one_line(f"learning rate of {name}: {best:g} (held-out loss after a tenth of the "
                       f"steps, at least {FEWEST}: {others}){end.get(best, '')}"),
              file=sys.stderr)  # fmt: skip
    return {"best": best, "losses": [[rate, loss] for rate, loss in losses.items()]}


def _shown(loss):
    return "not finite" if loss is None else f"{loss:.3f}"


def draw(path: Path, found: dict) -> Path | None:
    """Draw the loss over the rate, a line a model, and mark the choice; None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(4.5, 3.6), layout="tight")
    for name, search in found.items():
        points = [(rate, loss) for rate, loss in search["losses"] if loss is not None]
        (line,) = panel.plot(*zip(*points, strict=True), label=name, marker=".")
        panel.plot(search["best"], dict(points)[search["best"]], "o", color=line.get_color())
    panel.set(xscale="log", xlabel="learning rate", title="held-out loss after short runs")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    with files.writing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot.close(figure)
    return path
