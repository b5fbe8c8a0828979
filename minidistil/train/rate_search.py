"""The search for a learning rate: short runs from the same weights, and the held-out loss of each.

The rates are a factor of √10 apart, two below and two above the usual one. While the best of them
is the lowest or the highest, the next one beyond it is tried, too. A short run has a tenth of the
steps, at least FEWEST, and its own schedule, down to zero, so that a rate is judged by where
training ends with it; a warm-up takes the same share of its steps as of the run's.
A rate at which the loss or a gradient is not finite has no loss.

The run that follows begins with the weights as they were.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from minidistil.io.console import progress
from minidistil.io.limits import several
from minidistil.train.budget import steps_for
from minidistil.train.loop import run_loop
from minidistil.train.train_config import TrainConfig

FACTOR, AROUND, FURTHER = math.sqrt(10), 2, 3  # between rates; on each side; beyond these at most
SHARE, FEWEST = 10, 20  # a short run's steps: a tenth, but not fewer
LONGEST_WARMUP = 0.99  # of its steps


def search_rate(
    objective, data, config: TrainConfig, evaluate: Callable, measure: str = "loss"
) -> tuple[float, dict[float, float | None]]:  # fmt: skip
    """The best rate, and {rate: its held-out loss, None for one that is not finite}.

    config.lr: the rate in the middle. evaluate: model -> numbers, of which `measure` is compared,
    less being better. Raises FloatingPointError where no rate gives a finite loss, and ValueError
    where the evaluation has none.
    """
    steps = steps_for(objective, data, config, evaluate)
    warmup = config.warmup if config.warmup < 1 else min(config.warmup / steps, LONGEST_WARMUP)
    short = dataclasses.replace(
        config, steps=max(FEWEST, steps // SHARE), tokens=None, minutes=None, epochs=None,
        patience=None, keep="last", warmup=warmup,
    )  # fmt: skip
    start = {name: np.array(x) for name, x in objective.model.params.items()}
    losses = {}

    def tried(place):
        rate = float(f"{config.lr * FACTOR**place:.1e}")
        losses[rate] = _loss_at(rate, objective, data, short, evaluate, measure)
        objective.model.update(start)

    low, high = -AROUND, AROUND
    for place in progress(range(low, high + 1), "learning rates"):
        tried(place)
    for _ in range(FURTHER):
        best = _best(losses)
        if best == min(losses):
            tried(low := low - 1)
        elif best == max(losses):
            tried(high := high + 1)
    return _best(losses), dict(sorted(losses.items()))


def _best(losses):
    """The rate of the smallest loss. Raises FloatingPointError where no loss is finite."""
    finite = {rate: loss for rate, loss in losses.items() if loss is not None}
    if not finite:
        raise FloatingPointError(
            f"no learning rate from {min(losses):g} to {max(losses):g} gives a finite loss; look "
            f"for the cause in the data or the weights"
        )
    return min(finite, key=finite.get)


def _loss_at(rate, objective, data, config, evaluate, measure):
    """The held-out loss after a short run; None where it is not finite."""
    try:
        run_loop(objective, data, dataclasses.replace(config, lr=rate), progress=False)
        numbers = evaluate(objective.model)
    except FloatingPointError:
        return None
    if measure not in numbers:
        raise ValueError(
            f"learning rates are compared by the held-out {measure}, which the evaluation lacks: "
            f"it has {several(numbers)}; give labelled data, or a rate"
        )
    return numbers[measure] if math.isfinite(numbers[measure]) else None
