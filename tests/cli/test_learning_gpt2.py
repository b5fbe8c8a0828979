"""A GPT-2 from text to a smaller one: pretrain, evaluate, finetune, distill, and what they say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from cli_world import SIZES, SMALL

import minidistil as md
from minidistil.cli import main
from minidistil.data import Corpus, load_tokenizer

STEPS = ("--steps", "2", *SMALL)


@pytest.fixture(scope="module")
def decoder(world, tmp_path_factory):
    """A GPT-2 that learnt its bytes' pairs, too."""
    out = tmp_path_factory.mktemp("gpt2") / "teacher"
    sizes = ["300" if x == "150" else x for x in SIZES]
    argv = ["pretrain", "--family", "gpt2", "--data", world.text, "--out", out, *sizes, *STEPS]
    assert main([str(x) for x in argv]) == 0
    model = md.from_pretrained(out)
    model.update({n: 6 * p for n, p in model.params.items() if p.ndim == 2})  # no flat answers
    model.save_pretrained(out)
    return str(out)


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_pretraining_goes_on(decoder, world, tmp_path, capsys):
    model = md.from_pretrained(decoder)
    assert model.task == "text-generation" and model.config.architecture.P == 32
    assert model.config.eos_token_id == load_tokenizer(decoder).sep_id == 0
    found = answer(capsys, "pretrain", "--model", decoder, "--data", world.text, "--no-packed",
                   "--out", tmp_path / "more", *STEPS)  # fmt: skip
    assert found["evaluation"]["perplexity"] == pytest.approx(math.exp(found["evaluation"]["loss"]))
    assert md.from_pretrained(tmp_path / "more").config == model.config


@pytest.mark.parametrize("context", [1, 13])
def test_perplexity_as_transformers_counts_the_surprise(decoder, world, capsys, context, tmp_path):
    """Each word once, by hand from transformers' logits: windows of 20 that move on by 20 − c."""
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    found = answer(capsys, "evaluate", "--model", decoder, "--data", world.text, "--max-length",
                   20, "--context", context, "--batch-tokens", 256)  # fmt: skip
    tokenizer = load_tokenizer(decoder)
    texts = Path(world.text).read_text(encoding="utf-8").splitlines()
    corpus = Corpus.build(tmp_path / "all", texts, tokenizer, max_length=None)
    ids = torch.tensor(np.array([0, *corpus.ids], np.int64))[None]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(decoder)
    total, end = 0.0, 1
    for start in range(0, ids.shape[1], 20 - context):
        window = ids[:, start : start + 20]
        labels = window.clone()
        labels[:, : max(1, end - start)] = -100
        end, count = start + window.shape[1], int((labels != -100).sum())
        with torch.no_grad():
            total += float(theirs(window, labels=labels).loss) * count
        if end == ids.shape[1]:
            break
    mean = total / (ids.shape[1] - 1)
    assert found["loss"] == pytest.approx(mean, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)


def test_distil_by_recipe(decoder, world, tmp_path, capsys):
    out, kept = tmp_path / "student", tmp_path / "cache"
    how = ("distill", "--recipe", "distilgpt2", "--teacher", decoder, "--data", world.text, *STEPS)
    found = answer(capsys, *how, "--out", out)
    assert len(found["models"]) == 4
    assert all({"perplexity", "accuracy", "agreement"} <= set(row) for row in found["models"])
    assert set(found["samples"]) == {"of the text", *(row["name"] for row in found["models"])}
    assert all(x.startswith(found["samples"]["of the text"]) for x in found["samples"].values())
    assert "samples.distilled student" in (out / "report.html").read_text()
    student, teacher = md.from_pretrained(out), md.from_pretrained(decoder)
    assert (student.task, student.config.n_layer) == ("text-generation", 1)
    lines = [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]
    named = set().union(*lines)
    assert {"ce", "clm"} <= named and not {"cos", "mlm"} & named
    answer(capsys, *how, "--out", tmp_path / "cached", "--cache-teacher", kept, "--no-baselines")
    again = md.from_pretrained(tmp_path / "cached")
    for name, p in student.params.items():
        np.testing.assert_allclose(again.params[name], p, atol=1e-5)
    both = answer(capsys, "evaluate", "--model", out, "--model", decoder, "--data", world.text)
    mine = answer(capsys, "evaluate", "--model", out, "--data", world.text)
    assert both["loss"] != mine["loss"]
    assert teacher.config.vocab_size == student.config.vocab_size


def test_finetune_and_predict(decoder, world, tmp_path, capsys):
    out = tmp_path / "tuned"
    answer(capsys, "finetune", "--task", "text-generation", "--model", decoder, "--data",
           world.text, "--out", out, *STEPS)  # fmt: skip
    said = md.pipeline("text-generation", out)("the film", max_new_tokens=4)
    assert said[0]["generated_text"].startswith("the film")


@pytest.mark.parametrize("argv, says", [
    (["pretrain", "--family", "gpt3"], "--family must be one of bert, gpt2, not 'gpt3'"),
    (["pretrain", "--family", "gpt2", "--vocab-size", "99"], "vocab_size 99 must hold 256 bytes"),
    (["pretrain", "--family", "gpt2", "--vocab-size", "300", "--curriculum", "8:100"],
     "--curriculum is for masked words"),
    (["pretrain", "--family", "gpt2", "--vocab-size", "300", "--context", "128"],
     "windows of 128 tokens can share 1 to 127, not 128"),
    (["distill", "--teacher", "BERT", "--alpha-clm", "1"], "alpha_clm must be 0 without a causal"),
    (["distill", "--teacher", "GPT2", "--terms", "attention"], "which a decoder does not have"),
    (["finetune", "--task", "text-generation", "--model", "GPT2", "--max-length", "40"],
     "--max-length 40 is more than the model's 32 positions"),
    (["finetune", "--task", "text-generation", "--model", "GPT2", "--eval-data", "x.txt"],
     "--eval-data is for labelled data"),
])  # fmt: skip
def test_bad_input_leaves_nothing(argv, says, decoder, world, tmp_path, capsys):
    argv = [{"BERT": world.teacher, "GPT2": decoder}.get(x, x) for x in argv]
    assert main([*argv, "--data", world.text, "--out", str(tmp_path / "run"), *STEPS]) == 2
    error = capsys.readouterr().err
    assert says in error and error.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()
