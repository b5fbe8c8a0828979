"""Schedules against transformers', and the config that names them."""

import math

import pytest

from minidistil.train.schedule import SCHEDULES
from minidistil.train.train_config import TrainConfig


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (4, 17), (3, 3), (1, 1)])
def test_factors_equal_transformers(name, warmup, total):
    torch = pytest.importorskip("torch")
    optimization = pytest.importorskip("transformers.optimization")
    make = getattr(optimization, f"get_{name}_schedule_with_warmup")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    args = (optimizer, warmup) if name == "constant" else (optimizer, warmup, total)
    expected = make(*args).lr_lambdas[0]
    for step in range(total + 1):
        mine = SCHEDULES[name](step, warmup=warmup, total=total)
        assert mine == pytest.approx(expected(step), abs=1e-15)


def test_schedules_rise_to_one_and_fall_to_zero():
    for name, schedule in SCHEDULES.items():
        factors = [schedule(step, warmup=4, total=12) for step in range(13)]
        assert factors[:5] == [0, 0.25, 0.5, 0.75, 1]
        assert factors[12] == (1 if name == "constant" else 0)
        assert factors[4:] == sorted(factors[4:], reverse=True)
    assert SCHEDULES["cosine"](8, warmup=4, total=12) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "given: none"),
        ({"steps": 3, "minutes": 1}, "given: steps and minutes"),
        ({"steps": 0}, "steps must be a whole number above 0, not 0"),
        ({"steps": 2.5}, r"steps must be a whole number above 0, not 2\.5"),
        ({"minutes": math.inf}, "minutes must be a finite number above 0"),
        ({"steps": 3, "lr": -1}, "lr must be a finite number above 0, not -1"),
        ({"steps": 3, "lr": math.nan}, "lr must be a finite number above 0, not nan"),
        ({"steps": 3, "weight_decay": -1}, "weight_decay must be 0 or more"),
        ({"steps": 3, "warmup": 2.5}, "warmup must be a share below 1 or a whole number"),
        ({"steps": 3, "betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"steps": 3, "schedule": "step"}, "schedule must be one of constant, linear, cosine"),
        ({"steps": 3, "accumulate": 0}, "accumulate must be a whole number above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def test_config_survives_json_and_resolves_its_warmup():
    config = TrainConfig(steps=10, warmup=0.25)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.warmup_steps(10) == 3
    assert TrainConfig(steps=10, warmup=7).warmup_steps(10) == 7
    with pytest.raises(ValueError, match="no such training option: batch"):
        TrainConfig.from_dict({"steps": 3, "batch": 4})
