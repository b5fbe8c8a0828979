"""What `reproduce` measures and prints of a row: speeds and energy of reading, how far medians are
from the stored ones, how long --quick takes."""

import json
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from minidistil.cli import main
from minidistil.cli.bench import timing
from minidistil.cli.bench.workloads import SENTENCES
from minidistil.cli.reproduce import answer_text, model_speed, row_file

ROW = {
    "use": "a toy", "metric": "accuracy", "seeds": [0, 1, 2], "measure": "evaluate",
    "data": {"folder": "toy", "source": "nowhere", "prepare": "glue"},
    "stages": [{"name": "teacher", "minutes": 20, "command": "finetune"},
               {"name": "same-start", "minutes": 10, "seeds": True, "command": "finetune"}],
}  # fmt: skip


def stages(teacher, *student, seconds=30.0):
    """The numbers of a teacher of no seed and a student of some."""
    common = {"bytes": 1000, "parameters": 250, "seconds": seconds}
    return {"stages": {
        "teacher": {"-": {"accuracy": teacher, **common}},
        "same-start": {str(seed): {"accuracy": x, **common} for seed, x in enumerate(student)},
    }}  # fmt: skip


def row_with(tmp_path, **settings):
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(ROW | settings))
    return row_file.read_row(str(path))


# ------------------------------------------------------- speeds


class Clocks:
    """Models whose calls take stated times: seconds(name, calls before) -> wall, processor."""

    def __init__(self, seconds, monkeypatch):
        self.seconds, self.wall, self.processor, self.calls = seconds, 0.0, 0.0, []
        clock = partial(timing.interleave, clock=lambda: self.wall)
        monkeypatch.setattr(model_speed, "interleave", clock)
        monkeypatch.setattr(time, "process_time", lambda: self.processor)
        monkeypatch.setattr(model_speed, "task_in", lambda folder: None)
        monkeypatch.setattr(model_speed, "from_pretrained", self.model)

    def model(self, folder, task, backend):
        architecture = SimpleNamespace(longest=512)
        config = SimpleNamespace(architecture=architecture, vocab_size=99)
        return SimpleNamespace(config=config, forward=partial(self.read, folder))

    def read(self, name, input_ids, attention_mask, keep):
        assert [*attention_mask.sum(1)] == [*SENTENCES] and not keep
        wall, processor = self.seconds(name, len(self.calls))
        self.wall, self.processor = self.wall + wall, self.processor + processor
        self.calls.append(name)


def test_speed_and_energy_of_reading(monkeypatch):
    taken = {"teacher": (1 / 4, 1 / 2), "slow": (1 / 8, 1 / 8), "fast": (1 / 64, 1 / 32)}
    Clocks(lambda name, calls: taken[name], monkeypatch)
    found = model_speed.speeds({name: name for name in taken})
    assert [*found] == [*taken]
    of_a_thousand = 15.0 * 1000 / len(SENTENCES)  # joules, of a second for all sentences
    for name, (wall, processor) in taken.items():
        assert found[name] == {
            "times": 0.25 / wall, "ms": 1000 * wall,
            "joules": pytest.approx(processor * of_a_thousand), "energy": "15 W assumed",
        }  # fmt: skip


def test_a_first_call_that_prepares_does_not_count(monkeypatch):
    clocks = Clocks(lambda name, calls: (1, 1) if calls < 2 else (1 / 8, 1 / 4), monkeypatch)
    found = model_speed.speeds({"teacher": "teacher", "student": "student"})
    assert clocks.calls[:4] == ["teacher", "student"] * 2
    assert found["teacher"]["joules"] == found["student"]["joules"] == 15 / 4 * 1000 / 32


def test_other_load_affects_the_energy_of_all_alike(monkeypatch):
    """The processor becomes slower from call to call."""
    Clocks(lambda name, calls: (1 / 8, (1 + calls / 2) / 8), monkeypatch)
    found = model_speed.speeds({"teacher": "teacher", "student": "student"})
    joules = [one["joules"] for one in found.values()]
    assert np.ptp(joules) < 0.1 * np.mean(joules)


# ------------------------------------------------------- how long --quick takes


@pytest.mark.parametrize(("estimate", "seconds", "says"), [
    (3, 30.0, "about 3 minutes; "),  # one stored minute, no longer than the row's own estimate
    (3, 75.0, "about 3 minutes; "),
    (3, 120.0, "about 4 minutes; "),  # the row's own estimate is 3 minutes, the trainings took 4
    (5, 120.0, "about 6 minutes; "),  # 2 minutes for rows that it needs
    (5.2, 30.0, "about 6 minutes; "),
])  # fmt: skip
def test_minutes_of_a_quick_run(estimate, seconds, says, tmp_path):
    row = row_with(tmp_path, results={"quick": stages(0.8, 0.7, seconds=seconds)})
    text = answer_text.expectation(row, estimate)
    assert f"toy, a tenth of the steps: {says}expect teacher 0.8000, same start 0.7000" == text


def test_minutes_of_a_quick_run_that_is_not_stored(tmp_path):
    text = answer_text.expectation(row_with(tmp_path), 0.3)
    assert text.endswith("about 1 minute; no numbers are stored to compare with")


# ------------------------------------------------------- compared with what is stored


def answered(row, kind, capsys, monkeypatch, result):
    """What the command prints, and its --json, when a run gives this result."""
    monkeypatch.setattr("minidistil.cli.reproduce.result_of", lambda *_: result)
    argv = ["reproduce", str(row.path), "--data", "d", *["--quick"] * (kind == "quick")]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    return text, json.loads(capsys.readouterr().out)


def test_one_seed_has_a_difference_and_no_range(tmp_path, capsys, monkeypatch):
    row = row_with(tmp_path, results={"quick": stages(0.8, 0.7)})
    text, data = answered(row, "quick", capsys, monkeypatch, stages(0.79998, 0.704))
    said = "Difference from the stored number of one seed: teacher +0.0000, same start +0.0040."
    assert f"\n\n{said}\nenergy: none" in text and "range:" not in text and "within" not in text
    assert data["compared"] == pytest.approx({"teacher": -2e-5, "same-start": 0.004})
    assert data["stages"] == stages(0.79998, 0.704)["stages"]


@pytest.mark.parametrize(("students", "where", "away"), [
    ((0.6, 0.72, 0.9), "Every median is within the stored range.", 0),
    ((0.71, 0.75, 0.9), "Outside the stored range: same start, 0.0200 above it.", 0.02),
    ((0.1, 0.64, 0.9), "Outside the stored range: same start, 0.0400 below it.", -0.04),
])  # fmt: skip
def test_several_seeds_have_a_range(students, where, away, tmp_path, capsys, monkeypatch):
    row = row_with(tmp_path, results={"full": stages(0.8, 0.68, 0.7, 0.73)})
    text, data = answered(row, "full", capsys, monkeypatch, stages(0.75, *students))
    assert f"\n{where}\nDifference from the stored number of one seed: teacher -0.0500.\n" in text
    assert data["compared"] == pytest.approx({"teacher": -0.05, "same-start": away})


def test_each_share_of_the_labels_is_compared(tmp_path, capsys, monkeypatch):
    stored = {"shares": {"0.1": stages(0.5, 0.4), "1": stages(0.8, 0.7)}}
    row = row_with(tmp_path, shares=[0.1, 1], results={"quick": stored})
    found = {"shares": {"0.1": stages(0.5, 0.41), "1": stages(0.8, 0.69)}}
    text, data = answered(row, "quick", capsys, monkeypatch, found)
    assert data["compared"] == {
        "0.1": pytest.approx({"teacher": 0, "same-start": 0.01}),
        "1": pytest.approx({"teacher": 0, "same-start": -0.01}),
    }
    assert text.index("10 % of the labels\n") < text.index("same start +0.0100.")
    assert text.index("100 % of the labels\n") < text.index("same start -0.0100.")


def test_nothing_is_stored(tmp_path, capsys, monkeypatch):
    text, data = answered(row_with(tmp_path), "full", capsys, monkeypatch, stages(0.8, 0.7))
    assert "\nNo result is stored to compare with.\n" in text and data["compared"] == {}
