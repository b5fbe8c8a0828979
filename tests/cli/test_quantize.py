"""`minidistil quantize`: a folder that loads like any other, or one clear line and nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minidistil as md
from minidistil.cli import main

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv):
    assert main([str(x) for x in argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("warning:")]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def small(world, tmp_path_factory):
    """{task: a quantised folder}."""
    home = tmp_path_factory.mktemp("quantised")
    models = {"fill-mask": world.teacher, "text-classification": world.classifier}
    for task, model in models.items():
        assert main(["quantize", "--model", model, "--out", str(home / task)]) == 0
    return {task: home / task for task in models}


@pytest.mark.parametrize("kind", ["teacher", "classifier"])
def test_accuracy_and_size_before_and_after(world, tmp_path, capsys, kind):
    model, out = getattr(world, kind), tmp_path / "new" / "out"
    data = world.text if kind == "teacher" else world.labelled
    argv = ("quantize", "--model", model, "--out", out, "--data", data, "--backend", "numpy")
    found = answer(capsys, *argv)
    assert json.loads((out / "report.json").read_text()) == found | {"out": str(out)}
    alone = answer(capsys, "evaluate", "--model", model, "--data", data, "--backend", "numpy")
    again = answer(capsys, "evaluate", "--model", out, "--data", data, "--backend", "numpy")
    for name, value in found["before"].items():
        assert value == alone[name] and found["after"][name] == again[name]
    assert abs(found["after"]["loss"] - found["before"]["loss"]) < 0.05
    assert 0.9 < found["after"]["agreement"] <= 1
    assert 0 < found["bytes"]["after"] < 0.6 * found["bytes"]["before"]  # a third are names
    assert found["parameters"] == sum(p.size for p in md.from_pretrained(model).params.values())
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    for name in TOKENIZER:
        assert (out / name).read_bytes() == (Path(model) / name).read_bytes()


def test_without_data_nothing_is_measured(world, tmp_path, capsys):
    found = answer(capsys, "quantize", "--model", world.teacher, "--out", tmp_path / "out")
    assert found["before"] is found["after"] is None
    assert main(["quantize", "--model", world.teacher, "--out", str(tmp_path / "two")]) == 0
    assert "--data names text" in capsys.readouterr().out


def test_commands_take_it_like_any_other(small, world, tmp_path, capsys):
    masked, classifier = small["fill-mask"], small["text-classification"]
    assert answer(capsys, "info", masked)["dtype"] == "int8"
    assert len(answer(capsys, "fill-mask", "--model", masked, "the film was [MASK]")) == 5
    assert answer(capsys, "predict", "--model", classifier, "the film was great")[0]["label"]
    fine = ("--steps", 1, "--batch-tokens", 256, "--out")
    argv = ("finetune", "--model", classifier, "--data", world.labelled, *fine, tmp_path / "fine")
    assert answer(capsys, *argv)["steps"] == 1
    assert md.from_pretrained(tmp_path / "fine").dtype == "float32"
    argv = ("distill", "--teacher", masked, "--data", world.text, *fine, tmp_path / "student")
    assert answer(capsys, *argv, "--eval-tokens", 600)["steps"] == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_every_dtype_of_a_folder(small, world, capsys, dtype):
    argv = ("evaluate", "--data", world.text, "--dtype", dtype, "--model")
    losses = [answer(capsys, *argv, model)["loss"] for model in (world.teacher, small["fill-mask"])]
    assert abs(losses[0] - losses[1]) < 0.05
    predict = md.pipeline("text-classification", small["text-classification"], dtype=dtype)
    assert predict.model.dtype == dtype and 0 < predict("great actors")[0]["score"] < 1


def test_a_teacher_in_bfloat16(world, tmp_path, capsys):
    argv = ("distill", "--teacher", world.teacher, "--data", world.text, "--steps", 2,
            "--batch-tokens", 256, "--eval-tokens", 600, "--no-baselines")  # fmt: skip
    losses = []
    for dtype in ("float32", "bfloat16"):
        found = answer(capsys, *argv, "--teacher-dtype", dtype, "--out", tmp_path / dtype)
        losses.append({row["name"]: row["loss"] for row in found["models"]})
        assert md.from_pretrained(tmp_path / dtype).dtype == "float32"
    exact, close = losses
    assert 0 < abs(close["teacher"] - exact["teacher"]) < 0.05
    assert abs(close["distilled student"] - exact["distilled student"]) < 0.05
    error = refused(capsys, *argv, "--teacher-dtype", "int3", "--out", tmp_path / "int3")
    assert "dtype must be one of" in error and not (tmp_path / "int3").exists()


def test_a_quantised_folder_is_not_quantised_again(small, tmp_path, capsys):
    error = refused(capsys, "quantize", "--model", small["fill-mask"], "--out", tmp_path / "out")
    assert "quantised already" in error and not (tmp_path / "out").exists()


def test_what_is_there_is_left_alone(world, small, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "folder", world.teacher):
        error = refused(capsys, "quantize", "--model", world.teacher, "--out", out)
        assert "already holds something" in error
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["notes"]
    assert md.from_pretrained(world.teacher).dtype == "float32"


def test_data_that_is_missing_leaves_nothing(world, tmp_path, capsys):
    argv = ("quantize", "--model", world.teacher, "--out", tmp_path / "a" / "out", "--data")
    assert "no.txt" in refused(capsys, *argv, tmp_path / "no.txt")
    assert "feature-extraction" in refused(
        capsys, *argv, world.text, "--task", "feature-extraction"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["missing", "negative"])
def test_a_scale_that_cannot_be(small, tmp_path, capsys, fault):
    source, model = small["fill-mask"], tmp_path / "model"
    model.mkdir()
    for file in source.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    tensors = load_file(model / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight_scale"
    scale = tensors.pop(name)
    if fault == "negative":
        tensors[name] = -scale
    save_file(tensors, model / "model.safetensors")
    for command in ("info", "fill-mask --model"):
        error = refused(capsys, *command.split(), model, *["a [MASK]"][: len(command) > 4])
        assert name in error and "quantise it again" in error


def test_numbers_that_int8_cannot_hold(world, tmp_path, capsys):
    model = tmp_path / "model"
    md.from_pretrained(world.teacher).save_pretrained(model)
    tensors = load_file(model / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"][0, 0] = np.inf
    save_file(tensors, model / "model.safetensors")
    error = refused(capsys, "quantize", "--model", model, "--out", tmp_path / "out")
    assert "holds NaN or infinity" in error and not (tmp_path / "out").exists()
