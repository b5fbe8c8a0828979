"""`--lr search`: each model's own rate, said, drawn and stored; a resumed run keeps it."""

import json

import pytest

from minidistil.cli import chosen_rate, main
from minidistil.train import rate_search

SMALL = ("--backend", "numpy", "--batch-tokens", "256", "--lr", "search")


@pytest.fixture
def short(monkeypatch):
    """Short runs of two steps."""
    monkeypatch.setattr(rate_search, "FEWEST", 2)


def found_in(folder):
    """learning-rates.json, and {model: lr of its run.json}."""
    stored = json.loads((folder / "learning-rates.json").read_text())
    folders = {"distilled student": folder, "the model": folder}
    used = {}
    for name in stored:
        part = folders.get(name, folder / name.replace(",", "").replace(" ", "-"))
        used[name] = json.loads((part / "run.json").read_text())["plan"]["config"]["lr"]
    return stored, used


@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_the_best_rate_is_used_and_said(command, world, tmp_path, capsys, short):
    data = world.labelled if command == "finetune" else world.text
    out = tmp_path / "out"
    argv = [command, "--model", world.teacher, "--data", data, "--steps", "3", *SMALL]
    assert main([*argv, "--out", str(out)]) == 0
    said = capsys.readouterr().err
    stored, used = found_in(out)
    losses = dict(stored["the model"]["losses"])
    assert used["the model"] == stored["the model"]["best"] == min(losses, key=losses.get)
    assert f"learning rate of the model: {used['the model']:g} (held-out loss" in said
    assert len(losses) >= 5
    if (out / "learning-rates.png").exists():
        assert "<h2>The learning rate</h2>" in (out / "report.html").read_text()


def test_every_student_has_its_own(world, tmp_path, capsys, short, monkeypatch):
    out = tmp_path / "out"
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--layers", "0"]
    argv += ["--steps", "3", "--eval-tokens", "600", "--checkpoint-every", "1", *SMALL]
    assert main([*argv, "--out", str(out)]) == 0
    stored, used = found_in(out)
    assert [*stored] == ["distilled student", "same start, no teacher", "random start, no teacher"]
    assert used == {name: search["best"] for name, search in stored.items()}

    def never(*_, **__):
        raise AssertionError("a resumed run searches again")

    monkeypatch.setattr(chosen_rate, "search_rate", never)
    capsys.readouterr()
    assert main(["distill", "--resume", "--out", str(out)]) == 0
    assert found_in(out) == (stored, used)


@pytest.mark.parametrize(("best", "end"), [(0.1, "none lower was tried"), (0.3, ""),
                                           (1.0, "none higher was tried")])  # fmt: skip
def test_a_choice_at_an_end_is_said(monkeypatch, capsys, best, end):
    losses = {rate: abs(rate - best) for rate in (0.1, 0.3, 1.0)}
    monkeypatch.setattr(chosen_rate, "search_rate", lambda *_: (best, losses))
    assert chosen_rate._search("the model", None, None, None, None)["best"] == best
    said = capsys.readouterr().err
    assert said.startswith(f"learning rate of the model: {best:g} (held-out loss") and "20" in said
    assert said.rstrip().endswith(end or ")")


def test_refused(world, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["finetune", "--model", world.teacher, "--data", world.labelled, "--out", str(out)]
    assert main([*argv, "--lr", "fast"]) == 2
    assert "--lr" in capsys.readouterr().err and not out.exists()
