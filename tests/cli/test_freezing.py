"""--freeze and --layer-decay of the training commands: what keeps its bits, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_world import SMALL
from safetensors.numpy import load_file

from minidistil.cli import main
from minidistil.train.layer_rates import EMBEDDINGS, part_of

STEPS = ("--steps", "3", "--checkpoint-every", "1", *SMALL)


def moved(before, after):
    """The parts of a model in which two folders differ, by names that both have."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    return {part_of(n) for n in old.keys() & new.keys() if not np.array_equal(old[n], new[n])}


def config_of(folder):
    return json.loads((folder / "run.json").read_text())["plan"]["config"]


def without_last_step(folder):
    """Removes the newest checkpoint of a run, and its model."""
    shutil.rmtree(max((folder / "checkpoints").iterdir()))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "bertadam"])
def test_frozen_parts_keep_their_bits(world, tmp_path, optimizer):
    out = tmp_path / "out"
    argv = ["finetune", "--model", world.classifier, "--data", world.labelled, *STEPS, "--freeze",
            "embeddings,0", "--layer-decay", "0.5", "--optimizer", optimizer]  # fmt: skip
    assert main([*argv, "--out", str(out)]) == 0
    assert moved(Path(world.classifier), out) == {1, None}
    config = json.loads((out / "run.json").read_text())["plan"]["config"]
    assert config["freeze"] == ["embeddings", 0] and config["layer_decay"] == 0.5
    arrays = load_file(max((out / "checkpoints").iterdir()) / "arrays.safetensors")
    assert {part_of(name) for name in arrays if name.startswith("m/")} == {1, None}
    model = (out / "model.safetensors").read_bytes()
    without_last_step(out)
    assert main(["finetune", "--resume", "--out", str(out), "--freeze", "embeddings,0"]) == 0
    assert (out / "model.safetensors").read_bytes() == model
    assert main(["finetune", "--resume", "--out", str(out), "--freeze", "embeddings"]) == 2


def test_in_bfloat16_and_with_a_pretrained_model(world, tmp_path):
    out = tmp_path / "out"
    argv = ["pretrain", "--model", world.teacher, "--data", world.text, *STEPS, "--freeze", "1"]
    assert main([*argv, "--dtype", "bfloat16", "--out", str(out)]) == 0
    assert moved(Path(world.teacher), out) == {EMBEDDINGS, 0, None}


def test_students_from_the_teacher_have_frozen_parts_and_a_random_one_has_none(world, tmp_path):
    out = tmp_path / "out"
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, *STEPS, "--layer-decay",
            "0.9", "--freeze", EMBEDDINGS]  # fmt: skip
    assert main([*argv, "--out", str(out)]) == 0
    alone, fresh = out / "same-start-no-teacher", out / "random-start-no-teacher"
    word = "distilbert.embeddings.word_embeddings.weight"
    table = load_file(Path(world.teacher) / "model.safetensors")[word.replace("distil", "")]
    for folder, same in ((out, True), (alone, True), (fresh, False)):
        assert np.array_equal(load_file(folder / "model.safetensors")[word], table) == same
    trained = [json.loads((folder / "run.json").read_text())["plan"]["config"]
               for folder in (out, alone, fresh)]  # fmt: skip
    assert [(c["layer_decay"], c["freeze"]) for c in trained] == [(0.9, [EMBEDDINGS])] * 2 + [
        (1.0, [])
    ]
    model = (out / "model.safetensors").read_bytes()
    without_last_step(out)
    assert main(["distill", "--resume", "--out", str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize(("option", "value", "words"), [
    ("--freeze", "2", "freeze takes embeddings and layers from 0 to 1 of this model, not 2; give"),
    ("--freeze", "embedings", "layers from 0 to 1 of this model, not 'embedings'; give"),
    ("--layer-decay", "1.2", "layer_decay must be above 0 and at most 1, not 1.2"),
])  # fmt: skip
def test_bad_options_are_one_line(world, tmp_path, capsys, option, value, words):
    argv = ["finetune", "--model", world.classifier, "--data", world.labelled, *STEPS]
    assert main([*argv, "--out", str(tmp_path / "out"), option, value]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
