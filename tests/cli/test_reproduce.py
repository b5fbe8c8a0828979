"""`minidistil reproduce`: a row from data to table, resumed where it stopped, compared with its
file; and the energy that it reports."""

import json
import re
import shutil

import pytest

from minidistil.cli import main, parser_of, reproduce
from minidistil.cli.reproduce import row_file, stages
from minidistil.cli.reproduce.prepared_data import PREPARE
from minidistil.io.energy import Energy

SMALL = "--backend numpy --batch-tokens 256 --tokens 2000"
ROW = {
    "use": "a toy", "metric": "accuracy", "seeds": [0, 1],
    "data": {"folder": "toy", "source": "nowhere", "prepare": "glue"},
    "stages": [
        {"name": "teacher", "minutes": 2,
         "command": f"finetune --model {{minilm}} --data {{train}} --held-out 8 {SMALL}"},
        {"name": "distilled", "minutes": 1, "seeds": True,
         "command": f"distill --teacher {{teacher}} --data {{train}} --held-out 8 --layers 0 "
                    f"--no-baselines --seed {{seed}} {SMALL}"},
        {"name": "int8", "minutes": 1, "seeds": True, "command": "quantize --model {distilled}"},
    ],
    "measure": "evaluate --backend numpy --data {test}",
    "results": {},
}  # fmt: skip


@pytest.fixture
def row(world, tmp_path):
    """A row's file, its data, and the arguments that reproduce it."""
    toy = tmp_path / "data" / "toy"
    toy.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        shutil.copy(world.labelled, toy / name)
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(ROW))
    return [str(path), "--data", str(toy.parent), "--minilm", world.teacher,
            "--out", str(tmp_path / "out")]  # fmt: skip


def reproduced(capsys, *argv):
    assert main(["reproduce", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_data_to_table(row, tmp_path, capsys, monkeypatch):
    found = reproduced(capsys, *row, "--record")
    assert [*found["stages"]] == [*found["speed"]] == ["teacher", "distilled", "int8"]
    assert [*found["stages"]["teacher"]] == ["-"] and [*found["stages"]["int8"]] == ["0", "1"]
    sizes = {name: numbers.popitem()[1]["bytes"] for name, numbers in found["stages"].items()}
    assert sizes["teacher"] > sizes["distilled"] > sizes["int8"]
    assert found["speed"]["teacher"]["times"] == 1
    assert json.loads((tmp_path / "toy.json").read_text())["results"]["full"]["speed"]

    def never(argv):
        raise AssertionError("a finished stage is run again")

    monkeypatch.setattr(reproduce, "_data_of", never)
    assert main(["reproduce", *row]) == 0
    text = capsys.readouterr().out
    value = json.loads((tmp_path / "out" / "distilled-0" / "measured.json").read_text())["accuracy"]
    assert f"{value:.4f}" in text and "stored" in text and "none" not in text


@pytest.mark.filterwarnings("ignore:task|initialised|.*steps a student")
def test_interrupted_and_started_again(row, tmp_path, capsys):
    whole = reproduced(capsys, *row[:-1], str(tmp_path / "whole"))
    calls = []

    def stops(argv):
        calls.append(argv)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return reproduce._data_of(argv)

    read = row_file.read_row(row[0])
    words = {"train": tmp_path / "data/toy/train.tsv", "test": tmp_path / "data/toy/dev.tsv",
             "minilm": row[4]}  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(read, tmp_path / "out", words, False, stops)
    again = reproduced(capsys, *row)
    for name, numbers in whole["stages"].items():
        for seed, one in numbers.items():
            assert one["accuracy"] == again["stages"][name][seed]["accuracy"]
            assert one["loss"] == again["stages"][name][seed]["loss"]


def test_another_command_in_the_folder_is_refused(row, tmp_path, capsys):
    assert main(["reproduce", *row]) == 0
    changed = json.loads(json.dumps(ROW).replace("--layers 0", "--layers 1"))
    (tmp_path / "toy.json").write_text(json.dumps(changed))
    capsys.readouterr()
    assert main(["reproduce", *row]) == 2
    assert "distilled-0 was made by another command, distill" in capsys.readouterr().err


def test_quick_is_one_seed_and_a_tenth(row, tmp_path, capsys):
    found = reproduced(capsys, *row, "--quick", "--record")
    assert [*found["stages"]["distilled"]] == ["0"]
    told = json.loads((tmp_path / "out" / "teacher" / "run.json").read_text())["options"]
    assert told["tokens"] == 200
    assert [*json.loads((tmp_path / "toy.json").read_text())["results"]] == ["quick"]


def test_rows_of_the_package(capsys):
    assert main(["reproduce"]) == 0
    text = capsys.readouterr().out
    for name in row_file.names():
        row = row_file.read_row(name)
        assert name in text and row.use in text and row.data["prepare"] in PREPARE
        assert not row.stages[0].seeds and (len(row.seeds) >= 3 or not row.measure)
        for stage in row.stages:
            command = stage.command.split()
            filled = [re.sub("{.*}", "7", word) for word in command[1:]]
            parser_of(command[0]).parse_args([*filled, "--out", "x"])
            assert ("{seed}" in command) == (stage.seeds and command[0] == "distill")


@pytest.mark.parametrize(("argv", "message"), [
    (["gone"], "there is no row 'gone'; choose trec"),
    (["trec", "--data", "nowhere"], "no data at nowhere/nltk-labelled/qc; get it from"),
])  # fmt: skip
def test_refused(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *argv]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_file_that_is_no_row(tmp_path, capsys):
    path = tmp_path / "row.json"
    path.write_text(json.dumps(ROW | {"colour": "red"}))
    assert main(["reproduce", str(path)]) == 2
    assert "is no row" in capsys.readouterr().err


# ------------------------------------------------------- data


def test_pairs_of_mrpc(tmp_path):
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    for part in ("train", "dev"):
        text = f'\ufeff{header}\n1\t7\t8\tHe said " no " .\tNo , he said .'
        (tmp_path / f"{part}.tsv").write_text(text, encoding="utf-8")
    found = PREPARE["mrpc"](tmp_path, tmp_path / "out")
    for part in ("train", "test"):
        assert json.loads(found[part].read_text()) == {
            "text": 'He said " no " .', "text_pair": "No , he said .", "label": "1",
        }  # fmt: skip


# ------------------------------------------------------- energy


def test_energy_is_power_times_time_without_counters(tmp_path):
    with Energy(20, tmp_path) as used:
        sum(range(10**5))
    assert 0 < used.joules < 20 and used.source == "20 W assumed"


def test_counters_of_all_packages(tmp_path):
    def set_to(zone, value):
        folder = tmp_path / zone
        folder.mkdir(exist_ok=True)
        (folder / "energy_uj").write_text(str(value))
        (folder / "max_energy_range_uj").write_text("9999999")

    set_to("intel-rapl:0", 5)
    set_to("intel-rapl:0:0", 5)  # a part of package 0
    set_to("intel-rapl:1", 9_000_000)
    with Energy(20, tmp_path) as used:
        set_to("intel-rapl:0", 2_000_005)
        set_to("intel-rapl:0:0", 1_000_005)
        set_to("intel-rapl:1", 1_000_000)  # it began again
    assert used.joules == 4 and used.source == "RAPL"
