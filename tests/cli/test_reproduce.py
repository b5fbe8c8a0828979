"""`minidistil reproduce`: a row from data to table, resumed where it stopped, compared with its
file."""

import json
import re

import pytest
from numba import get_num_threads
from row_world import ROW, SMALL, reproduced

from minidistil.cli import main, parser_of, reproduce
from minidistil.cli.reproduce import row_file, run_row
from minidistil.cli.reproduce.few_labels import with_few_labels
from minidistil.cli.reproduce.prepared_data import PREPARE


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

    monkeypatch.setattr(run_row, "data_of", never)
    assert main(["reproduce", *row]) == 0
    text = capsys.readouterr().out
    value = json.loads((tmp_path / "out" / "distilled-0" / "measured.json").read_text())["accuracy"]
    assert f"{value:.4f}" in text and "Every median is within the stored range." in text
    stored = json.loads((tmp_path / "toy.json").read_text())
    for one in stored["results"]["full"]["stages"]["distilled"].values():
        one["accuracy"] += 2
    (tmp_path / "toy.json").write_text(json.dumps(stored))
    assert main(["reproduce", *row]) == 0
    outside = re.search("Outside the stored range: (.*).\n", capsys.readouterr().out)[1]
    assert re.fullmatch("distilled, [12].[0-9]{4} below it", outside)


def test_threads_of_every_command(row, capsys, monkeypatch):
    used, answer = [], run_row.data_of

    def counts(argv):
        used.append(get_num_threads())
        return answer(argv)

    monkeypatch.setattr(run_row, "data_of", counts)
    reproduced(capsys, *row, "--threads", "1")
    assert len(used) == 10 and set(used) == {1}


def test_ctrl_c_says_how_to_continue(row, capsys, monkeypatch):
    def stops(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_row, "data_of", stops)
    assert main(["reproduce", *row]) == 130
    assert reproduce.AGAIN in capsys.readouterr().err


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
        assert len(row.seeds) >= 3 or not row.measure
        commands = " ".join(stage.command for stage in row.stages)
        assert not row.stages[0].seeds or "{teacher}" not in commands
        known = {"train", "dev", "test", "texts", "few", "questions", "pairs"}
        known |= {"minilm", "weights", "seed"}
        for one in (row, *map(row_file.read_row, row.needs)):
            known |= {stage.name for stage in one.stages}
        for stage in row.stages:
            command = stage.command.split()
            assert {*re.findall("{(.*?)}", stage.command + stage.model)} <= known
            assert bool(command) != bool(stage.model)
            if command:
                filled = [re.sub("{.*}", "7", word) for word in command[1:]]
                parser_of(command[0]).parse_args([*filled, "--out", "x"])
                trains = command[0] in ("distill", "finetune")
                assert ("{seed}" in command) == (stage.seeds and trains)


@pytest.mark.parametrize(("argv", "message"), [
    (["gone"], "there is no row 'gone'; choose "),
    (["own-teacher-trec"], "the data is missing; name its folder with --data"),
    (["own-teacher-trec", "--data", "nowhere"], "no data at nowhere/nltk-labelled/qc; get it fro"),
    (["trec", "--stored", "--record"], "--stored runs nothing; leave --record out"),
    (["trec", "--stored", "--out", "x"], "--stored runs nothing; leave --out out"),
    (["--page", "x", "--record"], "--page is made of the rows' stored full numbers; leave --reco"),
    (["--page", "x", "--quick"], "--page is made of the rows' stored full numbers; leave --quick"),
    (["--page", "x", "--stored"], "--page is made of the rows' stored full numbers; leave --stor"),
    (["--record"], "without the NAME of a row all are listed; leave --record out"),
])  # fmt: skip
def test_refused(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIDISTIL_DATA", raising=False)
    assert main(["reproduce", *argv]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:task|initialised|.*steps a student")
def test_stages_for_each_share_of_the_labels(row, tmp_path, capsys):
    stages_ = [
        {"name": "teacher", "minutes": 2, "command": f"finetune --model {{minilm}} --data {{few}} "
                                                     f"--eval-data {{few}} {SMALL}"},
        {"name": "distilled", "minutes": 1, "seeds": True,
         "command": f"distill --teacher {{teacher}} --data {{train}} --no-labels --layers 0 "
                    f"--eval-data {{few}} --no-baselines --seed {{seed}} {SMALL}"},
    ]  # fmt: skip
    (tmp_path / "toy.json").write_text(json.dumps(ROW | {"shares": [0.2, 1], "stages": stages_}))
    found = reproduced(capsys, *row, "--quick", "--record")
    assert [*found["shares"]] == ["0.2", "1"] and "speed" not in found
    assert [*found["shares"]["1"]["stages"]] == ["teacher", "distilled"]
    told = json.loads((tmp_path / "out/share-0.2/teacher/run.json").read_text())["options"]
    assert told["data"].endswith("few-0.2.jsonl")
    assert main(["reproduce", *row, "--quick"]) == 0
    printed = capsys.readouterr()
    assert "expect with 20 % of the labels teacher 0." in printed.err
    assert printed.out.count("teacher +0.0000, distilled +0.0000.") == 2
    assert "\n20 % of the labels\n" in printed.out


@pytest.mark.filterwarnings("ignore:task|initialised|.*steps a student")
def test_a_row_starts_from_the_models_of_another_of_the_same_seed(
    row, world, tmp_path, capsys, monkeypatch
):
    """They are beside the row's folder, also where that is "."."""
    other = ROW | {"measure": "", "stages": [
        {"name": "start", "minutes": 1, "seeds": True,
         "command": f"distill --teacher {world.teacher} --data {{train}} --held-out 8 --layers 0 "
                    f"--no-baselines --seed {{seed}} {SMALL}"},
    ]}  # fmt: skip
    (tmp_path / "other.json").write_text(json.dumps(other))
    stages_ = [
        {"name": "teacher", "model": "{minilm}"},
        {"name": "tuned", "minutes": 1, "seeds": True,
         "command": f"finetune --model {{start}} --task fill-mask --data {{train}} --held-out 8 "
                    f"--seed {{seed}} {SMALL}"},
    ]  # fmt: skip
    mine = ROW | {"needs": [str(tmp_path / "other.json")], "stages": stages_}
    (tmp_path / "toy.json").write_text(json.dumps(mine))
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    found = reproduced(capsys, *row[:-1], ".")
    assert "joules" not in found["stages"]["teacher"]["-"]
    assert not (tmp_path / "out" / "teacher" / "config.json").exists()
    for seed in ("0", "1"):
        told = json.loads((tmp_path / f"out/tuned-{seed}/run.json").read_text())["options"]
        assert told["model"] == str(tmp_path / f"other/start-{seed}")


# ------------------------------------------------------- data


def test_few_labels_of_each_class_and_nested(tmp_path):
    train = tmp_path / "train.jsonl"
    rows = [{"text": f"{i}", "label": "rare" if i < 3 else "often"} for i in range(103)]
    train.write_text("".join(map(json.dumps, rows)).replace("}{", "}\n{"))

    def taken(share):
        lines = with_few_labels(train, share, tmp_path).read_text().splitlines()
        return [(row["text"], row["label"]) for row in map(json.loads, lines)]

    few, more, all_ = taken(0.01), taken(0.1), taken(1)
    assert sorted(label for _, label in few) == ["often", "rare"]
    assert len(more) == 11 and set(few) < set(more) < set(all_) and len(all_) == 103
    assert few == taken(0.01) and [text for text, _ in all_] != [row["text"] for row in rows]
