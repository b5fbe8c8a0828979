"""`minidistil reproduce` started again: what is finished is kept, what was interrupted is resumed,
and what other commands made is refused; a command that fails leaves nothing behind."""

import json
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
from row_world import ROW, reproduced

from minidistil.cli import main
from minidistil.cli.reproduce import run_row, stages
from minidistil.cli.reproduce.row_file import read_row
from minidistil.cli.reproduce.run_row import data_of
from minidistil.train import loop

STUDENTS = ["distilled-0", "int8-0", "distilled-1", "int8-1"]


def changed(row, old, new):
    """Replaces a text in the row's file."""
    with open(row[0]) as file:
        text = file.read()
    assert old in text
    with open(row[0], "w") as file:
        file.write(text.replace(old, new))


@pytest.fixture
def ran(row, tmp_path):
    """A function that runs the stages with commands that only write what shows that they are
    finished; it returns the folders that it made."""
    changed(row, ROW["measure"], "")

    def run(needed=(), during=lambda name: None):
        made = []

        def answer(argv):
            out = tmp_path / argv[argv.index("--out") + 1]
            out.mkdir(parents=True, exist_ok=True)
            (out / "run.json").touch()
            during(out.name)
            for name in ("config.json", "report.json"):
                (out / name).touch()
            made.append((out.name, argv))

        words = {"train": "train.tsv", "test": "dev.tsv", "minilm": "minilm"}
        stages.run_stages(read_row(row[0]), tmp_path / "out", words, False, answer, needed)
        return dict(made)

    return run


def record(tmp_path, name):
    return json.loads((tmp_path / "out" / f"{name}.stage.json").read_text())


# ------------------------------------------------------- interrupted


@pytest.mark.filterwarnings("ignore:task|initialised|.*steps a student")
def test_interrupted_in_a_training(row, tmp_path, capsys, monkeypatch):
    """Ctrl-C in the first student's third step; the numbers are those of an uninterrupted run."""
    whole = reproduced(capsys, *row[:-1], str(tmp_path / "whole"))
    step, count = loop.Loop.step, []

    def pressed(self):
        step(self)
        if "distilled" in str(self.run.folder):
            count.append(1)
            if len(count) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Loop, "step", pressed)
    assert main(["reproduce", *row]) == 130
    capsys.readouterr()
    out = tmp_path / "out"
    assert not (out / "distilled-0" / "report.json").exists()
    assert [*(out / "distilled-0" / "checkpoints").glob("step-*")]
    count.append("the third is over")
    again = reproduced(capsys, *row)
    trained = json.loads((out / "distilled-1" / "report.json").read_text())["step"]
    assert len(count) - 1 == 2 * trained, "no step is taken twice"
    for name, numbers in whole["stages"].items():
        for seed, one in numbers.items():
            assert one["accuracy"] == again["stages"][name][seed]["accuracy"]
            assert one["loss"] == again["stages"][name][seed]["loss"]


def test_energy_and_time_are_added_up(ran, tmp_path, monkeypatch):
    class Used:
        joules, source = 0.0, "a counter"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.joules = 4.0

    clock = iter([0, 10, 50, 57])
    monkeypatch.setattr(stages, "Energy", Used)
    monkeypatch.setattr(stages, "time", SimpleNamespace(perf_counter=lambda: next(clock, 100)))

    def stops(name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(during=stops)
    assert record(tmp_path, "teacher")["seconds"] == 10
    made = ran()
    assert made["teacher"] == ["finetune", "--resume", "--out", str(tmp_path / "out" / "teacher")]
    assert record(tmp_path, "teacher") == {
        "command": ROW["stages"][0]["command"].split(), "joules": 8.0, "seconds": 17.0,
        "energy": "a counter",
    }  # fmt: skip


def test_a_stage_is_on_record_while_it_runs(ran, tmp_path):
    """A process that is killed cannot write then what its checkpoints were made by."""
    seen = []
    ran(during=lambda name: seen.append(record(tmp_path, name)["command"][0]))
    assert seen == ["finetune", "distill", "quantize", "distill", "quantize"]


# ------------------------------------------------------- changed


def test_models_of_other_settings_are_refused(ran, row, tmp_path):
    """The folders that another command made, and all that were made from them, are named at once;
    those that are removed are made again, and the others are not run."""
    ran()
    changed(row, "--layers 0", "--layers 0,1")
    with pytest.raises(ValueError, match=f"out, {', '.join(STUDENTS)} come from .*--layers 0 --no"):
        ran()
    for name in STUDENTS[::2]:
        shutil.rmtree(tmp_path / "out" / name)
    with pytest.raises(ValueError, match=r"int8-0, int8-1 come from another .*, distill "):
        ran()
    for name in STUDENTS[1::2]:
        shutil.rmtree(tmp_path / "out" / name)
    assert [*ran()] == STUDENTS and not ran()
    after = record(tmp_path, "int8-0")["after"]
    assert [command.split()[0] for command in after] == ["finetune", "distill"]
    assert "after" not in record(tmp_path, "teacher")


def test_a_needed_row_s_models_of_other_settings(ran, row, tmp_path):
    """A row's own stage has the name of one that the needed row starts from."""
    teacher, start = ROW["stages"][0], ROW["stages"][1] | {"name": "start"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(ROW | {"stages": [teacher, start], "measure": ""}))
    stages_ = [{"name": "teacher", "seeds": True, "command": "quantize --model {start}"}]
    mine = ROW | {"stages": stages_, "measure": "", "needs": [str(other)]}
    (tmp_path / "toy.json").write_text(json.dumps(mine))
    needed = read_row(str(other))
    assert [*ran([(needed, tmp_path / "other")])] == ["teacher-0", "teacher-1"]
    commands = [stage["command"] for stage in (teacher, start)]
    assert record(tmp_path, "teacher-0")["after"] == commands
    tuned = [replace(stage, command=f"{stage.command} --lr 1") for stage in needed.stages]
    with pytest.raises(ValueError, match=r"teacher-0, teacher-1 come from another .*, finet"):
        ran([(replace(needed, stages=tuned), tmp_path / "other")])


@pytest.mark.filterwarnings("ignore:task|initialised|.*steps a student")
def test_a_changed_command_of_the_folder_or_of_the_measurement(row, tmp_path, capsys, monkeypatch):
    before, called = reproduced(capsys, *row), []
    monkeypatch.setattr(run_row, "data_of", lambda argv: called.append(argv[0]) or data_of(argv))
    changed(row, "--data {test}", "--data {test} --held-out 8")
    after = reproduced(capsys, *row)
    assert called == ["evaluate"] * 5
    tokens = [found["stages"]["teacher"]["-"]["tokens"] for found in (before, after)]
    assert tokens[0] > tokens[1]
    changed(row, "--layers 0", "--layers 1")
    assert main(["reproduce", *row]) == 2
    error = capsys.readouterr().err
    assert f"error: in {tmp_path / 'out'}, distilled-0, int8-0, " in error
    assert len(error.splitlines()) == 1 and len(called) == 5


def test_other_paths_to_the_same_folder_continue(row, tmp_path, capsys, monkeypatch):
    reproduced(capsys, *row)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_row, "data_of", lambda argv: pytest.fail(f"is run again: {argv}"))
    reproduced(capsys, *row[:-1], "out")
    monkeypatch.chdir("out")
    reproduced(capsys, *row[:-1], ".")


# ------------------------------------------------------- refused


def questions(row, tmp_path):
    """The row has questions, as TREC does, and its prepared files are written."""
    changed(row, '"glue"', '"trec"')
    for name in ("train", "test"):
        (tmp_path / f"data/toy/{name}.txt").write_text("DESC:manner How ?\nNUM:date When ?\n")


def test_a_command_that_failed_leaves_nothing_behind(row, tmp_path, capsys):
    questions(row, tmp_path)
    broken, before = tmp_path / "broken", row[row.index("--minilm") + 1]
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    there = sorted(tmp_path.rglob("*"))
    for out in ("out", "new/out"):
        argv = [*row[:-1], str(tmp_path / out)]
        argv[argv.index(before)] = str(broken)
        assert main(["reproduce", *argv]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == there
    changed(row, '"seeds": [0, 1]', '"shares": [0.5, 1], "seeds": [0, 1]')
    assert main(["reproduce", *argv]) == 2
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize("missing", ["MiniLM", "its folder", "a stage's model", "a file"])
def test_what_is_missing_is_found_before_anything_is_written(
    missing, row, tmp_path, capsys, monkeypatch
):
    """Also what the row itself starts from, before a row that it needs is run."""
    questions(row, tmp_path)
    other = ROW | {"measure": "", "stages": ROW["stages"][:1]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    place = {"stages": ROW["stages"], "needs": [str(tmp_path / "other.json")]}
    if missing == "MiniLM":
        monkeypatch.setattr(run_row, "MINILM", "no_such_package")
        del row[row.index("--minilm") : row.index("--out")]
        message = "this row starts from MiniLM; pip install"
    elif missing == "its folder":
        row[row.index("--minilm") + 1] = "nowhere"
        message = "no model at nowhere: there is no config.json; name"
    elif missing == "a stage's model":
        place["stages"] = [{"name": "teacher", "model": "elsewhere"}]
        message = "no model at elsewhere: there is no config.json; name"
    else:
        (tmp_path / "data/toy/test.txt").unlink()
        message = f"no data at {tmp_path / 'data/toy/test.txt'}; get it from nowhere"
    mine = json.loads((tmp_path / "toy.json").read_text()) | place
    (tmp_path / "toy.json").write_text(json.dumps(mine))
    there = sorted(tmp_path.rglob("*"))
    assert main(["reproduce", *row]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(tmp_path.rglob("*")) == there


def test_data_alone_is_not_removed_beside_a_stage(row, tmp_path, capsys):
    questions(row, tmp_path)
    (tmp_path / "out/teacher").mkdir(parents=True)
    (tmp_path / "out/teacher/notes.txt").touch()
    assert main(["reproduce", *row]) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[0] == "data"
