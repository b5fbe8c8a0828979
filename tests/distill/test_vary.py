"""Temperatures and weights on their way from a run's first step to its last."""

import json
import math

import numpy as np
import pytest
from distill_cases import pair, stopped_at
from model_cases import SMALL

import minidistil as md
from minidistil.distill import weight_schedules
from minidistil.train import Distillation, Run, TrainConfig, run_loop

RULES = ("temperature=linear:8:2", "alpha_ce=cosine:4:0", "alpha_cos=constant:3")


@pytest.mark.parametrize("x", [0, 0.25, 0.5, 1])
def test_values(x):
    found = weight_schedules.values(RULES, x)
    assert found["temperature"] == pytest.approx(8 - 6 * x)
    assert found["alpha_ce"] == pytest.approx(2 * (1 + math.cos(math.pi * x)))
    assert found["alpha_cos"] == 3


def test_a_config_at_a_place():
    config = md.DistillConfig(vary=RULES)
    there = config.at(0.5)
    assert (there.temperature, there.alpha_ce, there.alpha_cos) == (5, 2, 3)
    assert there.vary == () and there.alpha_mlm == config.alpha_mlm
    assert md.DistillConfig(vary=list(RULES)) == config
    plain = md.DistillConfig()
    assert plain.at(0.5) is plain


@pytest.mark.parametrize(
    "rule, words",
    [
        ("temperature", "varies as NAME=linear:START:END"),
        ("temperature=linear:8", "not 'temperature=linear:8'"),
        ("temperature=linear:a:b", "varies as"),
        ("temperature=square:1:2", "varies as"),
        ("depth=linear:1:2", "must be one of alpha_ce, .*temperature, not 'depth'"),
        ("convention=linear:1:2", "not 'convention'"),
        ("temperature=linear:8:0", "temperature must be above 0, not 0.0"),
        ("alpha_ce=linear:-1:1", "alpha_ce must be a number from 0 up"),
    ],
)
def test_refused(rule, words):
    with pytest.raises(ValueError, match=words):
        md.DistillConfig(vary=(rule,))


class Same:
    """Two batches, again and again."""

    def __init__(self, batch):
        self.batch = batch

    def batches(self, epoch):
        return [np.arange(2), np.arange(2, 4)]

    def collate(self, indices, *, step, first_sequence=0):
        return {name: x[indices] for name, x in self.batch.items()}


def run(folder, steps, stop=None, monkeypatch=None, resume=False):
    teacher, student, batch = pair(size=SMALL)
    objective = Distillation(student, teacher, md.DistillConfig(vary=RULES))
    config = TrainConfig(steps=steps, log_every=1, checkpoint_every=1, schedule="constant")
    stopped_at(objective, stop)
    run_loop(objective, Same(batch), config, run=Run(folder, resume=resume), progress=False)
    return student


def test_each_step_has_its_values_also_after_an_interruption(tmp_path):
    whole = run(tmp_path / "whole", 4)
    text = (tmp_path / "whole" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["temperature"] for line in lines] == [8, 6.5, 5, 3.5]
    expected = [weight_schedules.values(RULES, i / 4)["alpha_ce"] for i in range(4)]
    assert [line["alpha_ce"] for line in lines] == pytest.approx(expected)
    for line in lines:
        parts = line["alpha_ce"] * line["ce"] + 2 * line["mlm"] + 3 * line["cos"]
        assert line["loss"] == pytest.approx(parts)
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", 4, stop=2)
    again = run(tmp_path / "cut", 4, resume=True)
    for name, p in whole.params.items():
        np.testing.assert_array_equal(p, again.params[name])
