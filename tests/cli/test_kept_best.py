"""`--keep best` chooses by everything that is held out.

Was: `distill` chose the model by a quarter of the held-out batches, those of its curves.
Right: the model is chosen by all of them; the curves alone are measured on a quarter."""

import json

import pytest
from cli_world import SMALL

from minidistil.cli import main


@pytest.mark.parametrize(("keep", "same"), [("best", True), ("last", False)])
def test_students_are_chosen_by_all_that_is_held_out(keep, same, world, tmp_path, capsys):
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--layers", "0",
            "--no-baselines", "--steps", "3", "--eval-every", "1", "--held-out", "0.5",
            "--eval-tokens", "0", "--keep", keep, "--measure", "loss",
            "--out", str(tmp_path / "run"), *SMALL, "--json"]  # fmt: skip
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    table = {row["name"]: row for row in found["models"]}["distilled student"]["loss"]
    assert (table == pytest.approx(found["evaluation"]["loss"], rel=1e-6)) == same
