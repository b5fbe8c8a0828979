"""--resume: a run keeps the options it began with, those that it chose itself among them."""

import json

from cli_world import SMALL

from minidistil.cli import main


def test_resume_refuses_another_option(world, capsys):
    assert main(["pretrain", "--out", world.teacher, "--resume", "--lr", "0.5"]) == 2
    assert "--lr was 0.001, now 0.5" in capsys.readouterr().err
    assert main(["pretrain", "--out", world.teacher, "--resume", "--steps", "2"]) == 0


def test_resume_bears_the_default_said_aloud(world, tmp_path, capsys):
    out = ["distill", "--out", str(tmp_path / "run")]
    argv = ["--teacher", world.teacher, "--data", world.text, "--steps", "1", "--no-baselines"]
    assert main([*out, *map(str, argv), *SMALL]) == 0
    stored = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert "steps" in stored["given"] and "layers" not in stored["given"]
    said = ["--layers", "0", "--max-length", str(stored["max_length"])]
    assert main([*out, "--resume", *said]) == 0
    capsys.readouterr()
    assert main([*out, "--resume", "--layers", "1"]) == 2
    assert "--layers was [0], now [1]" in capsys.readouterr().err
