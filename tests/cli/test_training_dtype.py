"""--dtype of the training commands: what is rounded, what run.json keeps, what is refused."""

import json

import numpy as np
import pytest
from cli_world import SIZES, SMALL
from safetensors.numpy import load_file

from minidistil.cli import main


def commands(world, out):
    """{command: its arguments, for two steps}."""
    common = ["--steps", "2", "--out", str(out), *SMALL]
    data = ["--data", world.text]
    return {
        "pretrain": ["pretrain", *data, *SIZES, *common],
        "finetune": ["finetune", "--model", world.teacher, "--data", world.labelled, *common],
        "distill": ["distill", "--teacher", world.teacher, *data, "--no-baselines", *common],
    }


@pytest.mark.parametrize("command", ["pretrain", "finetune", "distill"])
def test_a_run_in_bfloat16(world, tmp_path, command):
    exact, near = tmp_path / "exact", tmp_path / "near"
    assert main(commands(world, exact)[command]) == 0
    assert main([*commands(world, near)[command], "--dtype", "bfloat16"]) == 0
    stored = json.loads((near / "run.json").read_text())
    assert stored["options"]["dtype"] == stored["plan"]["dtype"] == "bfloat16"
    assert main([command, "--out", str(near), "--resume", "--dtype", "bfloat16"]) == 0
    mine, reference = (load_file(out / "model.safetensors") for out in (near, exact))
    assert any((mine[name] != x).any() for name, x in reference.items())
    for name, x in reference.items():
        assert mine[name].dtype == np.float32
        np.testing.assert_allclose(mine[name], x, atol=5e-3)


@pytest.mark.parametrize("command", ["pretrain", "finetune", "distill"])
@pytest.mark.parametrize(
    "options, words",
    [
        (["--dtype", "int8"], "float32 or bfloat16, not 'int8': int8 is for inference"),
        (["--dtype", "float64"], "not 'float64'"),
        (["--dtype", "bfloat16", "--backend", "cuda"], "'cuda' needs float32, not bfloat16"),
    ],
)
def test_what_is_refused(world, tmp_path, capsys, command, options, words):
    out = tmp_path / "out"
    assert main([*commands(world, out)[command], *options]) == 2
    assert words in capsys.readouterr().err and not out.exists()


def test_a_resumed_run_keeps_its_dtype(world, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*commands(world, out)["finetune"], "--dtype", "bfloat16"]) == 0
    capsys.readouterr()
    assert main(["finetune", "--out", str(out), "--resume", "--dtype", "float32"]) == 2
    assert "--dtype was 'bfloat16', now 'float32'" in capsys.readouterr().err


def test_the_teacher_follows_unless_told_otherwise(world, tmp_path, monkeypatch):
    from minidistil.cli import distill

    asked, load = [], distill.load
    monkeypatch.setattr(
        distill,
        "load",
        lambda *a, dtype, **rest: asked.append(dtype) or load(*a, dtype=dtype, **rest),
    )
    for i, options in enumerate(
        ([], ["--dtype", "bfloat16"], ["--dtype", "bfloat16", "--teacher-dtype", "float32"])
    ):
        assert main([*commands(world, tmp_path / str(i))["distill"], *options]) == 0
    assert asked == [None, "bfloat16", "float32"]
