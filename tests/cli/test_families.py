"""The commands on the families beside BERT and DistilBERT, with tokenizers of their own."""

import json
from pathlib import Path

import pytest
from cli_world import SMALL
from families_world import FAMILIES, family_folder

import minidistil as md
from minidistil.cli import main
from minidistil.data import load_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_distil_finetune_and_distil_again(family, world, tmp_path, capsys):
    teacher, common = family_folder(family, tmp_path / "teacher"), ("--steps", "2", *SMALL)

    def run(*argv):
        assert main([str(x) for x in (*argv, "--json")]) == 0
        return json.loads(capsys.readouterr().out)

    student = tmp_path / "student"
    found = run("distill", "--teacher", teacher, "--data", world.text, "--out", student, *common)
    assert len(found["models"]) == 4
    model = md.from_pretrained(student)
    assert (model.config.model_type, model.config.architecture.L) == (family, 1)
    assert load_tokenizer(student).get_vocab() == load_tokenizer(teacher).get_vocab()
    assert load_tokenizer(student).token_types == (family == "albert")
    classifier = tmp_path / "classifier"
    run("finetune", "--model", student, "--data", world.labelled, "--out", classifier, *common)
    run("distill", "--teacher", classifier, "--data", world.labelled, "--held-out", 8, "--layers",
        0, "--no-baselines", "--out", tmp_path / "small", *common)  # fmt: skip
    assert md.from_pretrained(tmp_path / "small").task == "text-classification"
    described = run("info", tmp_path / "small")
    assert described["config"]["model_type"] == family
    assert described["parameters"] == sum(p.size for p in model_params(tmp_path / "small"))


def model_params(folder):
    return md.from_pretrained(Path(folder)).params.values()


@pytest.mark.parametrize("family", FAMILIES)
def test_check_knows_them(family, tmp_path, capsys):
    pytest.importorskip("transformers")
    assert main(["check", "--model", str(family_folder(family, tmp_path))]) == 0
    assert "agree: " in capsys.readouterr().out
