"""The file of a row of one's own: what cannot work is refused in one line, before it is run."""

import json

import pytest
from row_world import ROW, reproduced

from minidistil.cli import main
from minidistil.cli.reproduce import row_file
from minidistil.cli.reproduce.placeholders import filled, placeholders
from minidistil.cli.reproduce.row_file import read_row
from minidistil.cli.reproduce.stages import minutes_of

TEACHER, DISTILLED, INT8 = ROW["stages"]


def stages(*given, **first):
    """The row's stages, of which the first has other fields."""
    return {"stages": [TEACHER | first, *given]}


@pytest.mark.parametrize(("fields", "message"), [
    ({"colour": "red"}, " is no row ("),
    ({"stages": {"name": "teacher"}}, " is no row ("),
    ({"seeds": 3}, ": seeds is a list, not 3"),
    ({"needs": "general"}, ": needs is a list, not 'general'"),
    ({"data": "toy"}, ": data is an object, not 'toy'"),
    (stages(minutes="2"), ": minutes is a number, not '2'"),
    (stages(seeds="yes"), ": seeds is true or false, not 'yes'"),
    ({"data": {"folder": "toy", "prepare": "glue"}}, "folder, source, prepare; source is missing"),
    ({"data": ROW["data"] | {"prepare": "gleu"}}, ": prepare is 'gleu'; choose glue, sst2, "),
    ({"stages": []}, ": stages is empty; give at least one, the teacher"),
    (stages(name="train"), ": a stage is called 'train'; choose letters"),
    (stages(name="data"), ": a stage is called 'data'; choose letters"),
    (stages(name="../up"), ": a stage is called '../up'; choose letters"),
    (stages(TEACHER), ": two stages are called 'teacher'; rename one"),
    ({"seeds": []}, ": a stage is repeated, but seeds is empty; give some"),
    ({"metric": ""}, ": measure is given without metric; name"),
    ({"measure": "info --data {test}"}, ": measure is 'info --data {test}'; the command that"),
    ({"measure": "evaluate --data {seed}"}, ": measure has {seed}; it may have minilm, test, tr"),
    ({"measure": "", "shares": [1]}, ": shares is given without measure; give"),
    ({"shares": [0.1, 10]}, ": a share of the labels is above 0 and at most 1, not 10"),
    (stages(command="nocommand --data {train}"), "of stage 'teacher' is 'nocommand'; choose pret"),
    (stages(model="{minilm}"), ": stage 'teacher' has a command or a model; give one"),
    (stages(command=""), ": stage 'teacher' has a command or a model; give one"),
    (stages(command="", model="{train}"), "the model of stage 'teacher' has {train}; it may have"),
    (stages(command="finetune --data {dev}"), "'teacher' has {dev}; it may have minilm, test, t"),
    (stages(command="finetune --data {few}"), "'teacher' has {few}; it may have minilm, test, t"),
    (stages(command="finetune --seed {seed}"), "'teacher' has {seed}; it may have minilm, test"),
    (stages(INT8, DISTILLED), "'int8' has {distilled}; it may have minilm, seed, teacher, test"),
    (stages(DISTILLED, command="quantize --model {distilled}"), "'teacher' has {distilled}; it"),
    ({"stages": [{"name": "own", "command": "quantize --model {teacher}"}, TEACHER],
      "needs": ["table4"]},
     "'own' has {teacher}; it may have minilm, test, train"),
    ({"needs": ["gone"]}, "there is no row 'gone'; choose "),
    ({"needs": ["trec"]}, ": needs trec, which has needs or shares itself; need a row without"),
    ({"needs": ["table4"], "seeds": [1, 2]}, ": seeds is [1, 2], but [0, 1, 2] in table4; let "),
])  # fmt: skip
def test_refused(fields, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "row.json"
    path.write_text(json.dumps(ROW | fields))
    assert main(["reproduce", "row.json", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert [*tmp_path.iterdir()] == [path]


def test_what_commands_may_name(tmp_path):
    """Shares bring {few}; a repeated stage may name one that stands behind it but is run before."""
    again = {"name": "again", "seeds": True, "command": "quantize --model {last} --seed {seed}"}
    last = {"name": "last", "command": "finetune --model {all-losses} --data {few}"}
    alone = {"name": "alone", "command": "finetune --model {teacher} --data {few}"}
    start = {"name": "start", "seeds": True, "command": "finetune --model {all-losses}"}
    for given, fine in (([again, alone], False), ([alone, start], True), ([last], False)):
        row = ROW | {"shares": [1], "needs": ["table4"], "stages": given}
        (tmp_path / "row.json").write_text(json.dumps(row))
        if fine:
            assert [stage.name for stage in read_row(str(tmp_path / "row.json")).stages]
        else:
            with pytest.raises(ValueError, match="the command of stage"):
                read_row(str(tmp_path / "row.json"))
    row = ROW | {"stages": [again, last | {"command": "finetune --data {train}"}]}
    (tmp_path / "row.json").write_text(json.dumps(row))
    assert read_row(str(tmp_path / "row.json")).stages[1].name == "last"


def test_placeholders():
    command = "distill --teacher {teacher}/x --model {no-labels}"
    assert placeholders(command) == ["teacher", "no-labels"]
    assert filled("{teacher}/{", {"teacher": "a b"}) == "a b/{"


@pytest.mark.parametrize("name", row_file.names())
def test_rows_of_the_package_are_accepted(name):
    assert read_row(name).name == name


def test_minutes(tmp_path):
    """Two minutes once and two for each of two seeds; --quick: a tenth of one seed."""
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    row = read_row(str(tmp_path / "row.json"))
    assert minutes_of(row, False) == 6 and minutes_of(row, True) == pytest.approx(0.4)
    (tmp_path / "row.json").write_text(json.dumps(ROW | {"shares": [0.01, 0.1, 1]}))
    row = read_row(str(tmp_path / "row.json"))
    assert minutes_of(row, False) == 18 and minutes_of(row, True) == pytest.approx(1.2)


@pytest.mark.filterwarnings("ignore:task|initialised|.*steps a student")
def test_a_metric_that_is_not_measured(row, tmp_path, capsys):
    """Refused when the first model is measured, before the second is made. With the right metric
    the row continues. It needs no seeds, because no stage is repeated."""
    mine = ROW | {"metric": "acuracy", "stages": [TEACHER, INT8 | {
        "seeds": False, "command": "quantize --model {teacher}"}], "seeds": []}  # fmt: skip
    (tmp_path / "toy.json").write_text(json.dumps(mine))
    assert main(["reproduce", *row]) == 2
    assert "metric is 'acuracy'; choose of what is measured: " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [
        "teacher"
    ]
    (tmp_path / "toy.json").write_text(json.dumps(mine | {"metric": "accuracy"}))
    assert [*reproduced(capsys, *row)["speed"]] == ["teacher", "int8"]
