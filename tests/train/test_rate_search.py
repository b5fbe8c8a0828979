"""The search for a learning rate: its rates, its choice, and the weights that it leaves as they
were."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from train_toy import ToyData, ToyObjective, config

from minidistil.train import rate_search
from minidistil.train.rate_search import search_rate


def loss(model):
    """Of the noiseless task that ToyObjective learns."""
    data = ToyData()
    batch = data.collate(np.arange(20), step=0, first_sequence=0)
    x, y = batch["input_ids"] / 7, batch["labels"][:, None] / 3
    p = model.params
    return {"loss": float(np.mean((x @ p["dense.weight"].T + p["dense.bias"] - y) ** 2))}


def test_the_best_of_the_rates_and_the_weights_as_they_were():
    objective = ToyObjective()
    before = {name: x.copy() for name, x in objective.model.params.items()}
    best, losses = search_rate(objective, ToyData(), config(steps=200, lr=1e-3), loss)
    assert best == min(losses, key=losses.get) and list(losses) == sorted(losses)
    assert min(losses) < best < max(losses) or len(losses) == 5 + rate_search.FURTHER
    ratios = np.diff(np.log10(list(losses)))
    np.testing.assert_allclose(ratios, 0.5, atol=0.02)
    for name, x in objective.model.params.items():
        np.testing.assert_array_equal(x, before[name])
    assert search_rate(objective, ToyData(), config(steps=200, lr=1e-3), loss) == (best, losses)


def made_up(monkeypatch, losses_of):
    """Searches where the loss is a function of the rate."""
    chosen = []

    def run_loop(objective, data, config, progress):
        chosen.append(config)

    monkeypatch.setattr(rate_search, "run_loop", run_loop)
    return chosen, lambda model: {"loss": losses_of(chosen[-1].lr)}


@pytest.mark.parametrize(("wanted", "further"), [(1e-3, 0), (1e-5, 3), (1e-1, 3), (1e-2, 1)])
def test_beyond_the_ends_while_these_are_best(wanted, further, monkeypatch):
    chosen, evaluate = made_up(monkeypatch, lambda rate: abs(math.log(rate / wanted)))
    best, losses = search_rate(ToyObjective(), ToyData(), config(lr=1e-3), evaluate)
    assert best == pytest.approx(wanted, rel=0.1)
    assert len(losses) == len(chosen) == 5 + further
    assert {c.steps for c in chosen} == {20} and {c.patience for c in chosen} == {None}


def test_a_rate_that_is_not_finite_is_not_chosen(monkeypatch):
    _, evaluate = made_up(monkeypatch, lambda rate: math.nan if rate > 1e-3 else -rate)
    best, losses = search_rate(ToyObjective(), ToyData(), config(lr=1e-3), evaluate)
    assert best == 1e-3 and [rate for rate, x in losses.items() if x is None] == [3.2e-3, 1e-2]
    _, evaluate = made_up(monkeypatch, lambda rate: math.nan)
    with pytest.raises(FloatingPointError, match=r"no learning rate from 0\.0001 to 0\.01 gives"):
        search_rate(ToyObjective(), ToyData(), config(lr=1e-3), evaluate)


@pytest.mark.parametrize(("warmup", "share"), [(0.05, 0.05), (0, 0), (100, 0.25), (900, 0.99)])
def test_a_warm_up_in_steps_is_shortened(warmup, share, monkeypatch):
    """Was: 100 steps of warm-up in a run of 40, which never reached the rate."""
    chosen, evaluate = made_up(monkeypatch, lambda rate: abs(rate - 1e-3))
    search_rate(ToyObjective(), ToyData(), config(steps=400, lr=1e-3, warmup=warmup), evaluate)
    assert {c.warmup for c in chosen} == {share} and {c.steps for c in chosen} == {40}


def test_a_tenth_of_the_steps_of_any_budget(monkeypatch):
    chosen, evaluate = made_up(monkeypatch, lambda rate: abs(rate - 1e-3))
    budget = config(steps=None, epochs=200, lr=1e-3)
    search_rate(SimpleNamespace(model=ToyObjective().model), ToyData(), budget, evaluate)
    assert {c.steps for c in chosen} == {60} and {c.epochs for c in chosen} == {None}
