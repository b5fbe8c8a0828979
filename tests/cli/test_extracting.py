"""Extractive summaries from the command line and from Python, on tiny models."""

import json
import random

import pytest
from cli_world import BAD, GOOD, SMALL, sentence

import minidistil as md
from minidistil.cli import main
from minidistil.tasks.pipeline import pipeline

pytest.importorskip("rouge_score")
TEXT = "The film was great. We loved the actors. What a dull plot! The actors were awful."
ROUGES = {"rouge1", "rouge2", "rougeL"}


@pytest.fixture(scope="session")
def extracting(world, tmp_path_factory):
    """Documents whose summary is one of their sentences, and a model that has seen them."""
    home, rng, rows = tmp_path_factory.mktemp("extracts"), random.Random(4), []
    for _ in range(24):
        summary = sentence(rng, GOOD)[:30]
        document = [sentence(rng, BAD)[:25], summary, sentence(rng, BAD)[:25]]
        rng.shuffle(document)
        rows.append({"document": document, "summary": summary})
    data, out = home / "data.jsonl", home / "extractor"
    data.write_text("\n".join(map(json.dumps, rows)))
    argv = ["finetune", "--task", "extractive-summarization", "--model", world.teacher, "--data",
            str(data), "--held-out", "6", "--steps", "3", "--sentences", "1", "--out", str(out),
            *SMALL]  # fmt: skip
    assert main(argv) == 0
    return str(data), str(out)


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_beside_the_first_and_the_best(extracting, capsys):
    data, folder = extracting
    argv = ["evaluate", "--model", folder, "--data", data, *SMALL]
    found = answer(capsys, *argv, "--sentences", 1)
    beside = {f"{who}_{name}" for who in ("lead", "oracle") for name in ROUGES}
    assert set(found) == {"loss", "tokens", *ROUGES, *beside}
    assert found["oracle_rouge1"] > max(found["lead_rouge1"], found["rouge1"]) - 1e-9
    assert found["oracle_rouge2"] > 90  # every document holds its summary
    short = answer(capsys, *argv, "--sentences", 1, "--max-length", 6)
    assert short["oracle_rouge2"] == found["oracle_rouge2"]  # whatever the model reads
    blocked = answer(capsys, *argv, "--trigram-blocking")
    assert blocked["rouge1"] <= 100 and blocked["lead_rouge1"] != found["lead_rouge1"]
    assert main(argv) == 0
    assert len({len(line) for line in capsys.readouterr().out.splitlines()}) == 1


@pytest.mark.parametrize("more", [["--labels"], ["--no-labels", "--alpha-mse", "1"]])
def test_distil(extracting, tmp_path, capsys, more):
    data, folder = extracting
    found = answer(capsys, "distill", "--teacher", folder, "--data", data, "--held-out", 6,
                   "--steps", 2, "--out", tmp_path / "run", *more, *SMALL)  # fmt: skip
    assert {"loss", "agreement", *ROUGES} <= set(found["models"][1])
    assert found["models"][0]["agreement"] == 1
    student = md.from_pretrained(tmp_path / "run")
    assert student.config.model_type == "distilbert" and student.task == "extractive-summarization"


def test_a_cached_teacher_says_the_same(extracting, tmp_path, capsys):
    data, folder = extracting
    losses = []
    for more in ([], ["--cache-teacher", tmp_path / "kept"]):
        found = answer(capsys, "distill", "--teacher", folder, "--data", data, "--held-out", 6,
                       "--steps", 2, "--no-baselines", "--out", tmp_path / f"run{len(losses)}",
                       *more, *SMALL)  # fmt: skip
        losses.append(found["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_predict(extracting, capsys):
    _, folder = extracting
    found = answer(capsys, "predict", "--model", folder, "--sentences", 2, TEXT, "one sentence")
    predict = pipeline("extractive-summarization", folder)
    assert found == predict([TEXT, "one sentence"], sentences=2)
    chosen = found[0]["sentences"]
    assert [c["index"] for c in chosen] == sorted(c["index"] for c in chosen)
    assert found[0]["summary_text"] == " ".join(c["text"] for c in chosen)
    assert all(0 < c["score"] < 1 for c in chosen) and found[1]["summary_text"] == "one sentence"
    assert main(["predict", "--model", folder, "--sentences", "1", TEXT]) == 0
    assert capsys.readouterr().out.split("\t")[0] == predict(TEXT, sentences=1)["summary_text"]
    assert main(["predict", "--model", folder, "--top-k", "1", TEXT]) == 2


def test_scores_are_the_models_own(extracting):
    predict = pipeline("extractive-summarization", extracting[1], backend="numpy")
    texts = ["a film", "a dull plot"]
    ids = [predict.tokenizer(text)["input_ids"][0].tolist() for text in texts]
    types = [[[0] * len(ids[0]) + [1] * len(ids[1])]]
    logits = predict.model.forward([ids[0] + ids[1]], token_type_ids=types[0]).logits[0]
    given = predict({"text": texts}, sentences=2)["sentences"]
    for one, z in zip(given, logits[[0, len(ids[0])]], strict=True):
        assert one["score"] == pytest.approx(1 / (1 + 2.718281828459045 ** (z[0] - z[1])), rel=1e-5)
    assert predict([texts]) == predict([{"document": texts}])


def test_a_long_document_is_said(extracting):
    predict = pipeline("extractive-summarization", extracting[1])
    with pytest.warns(UserWarning, match=r"text 1 .* 32 tokens; it reads . of 40 sentences"):
        predict(["a film", ["the film was great"] * 40])


@pytest.mark.parametrize("inputs", ["", [], [""], 3, [[]], {"question": "x"}, ["a", [3]]])
def test_bad_inputs(extracting, inputs):
    with pytest.raises(ValueError):
        pipeline("extractive-summarization", extracting[1])(inputs)


def test_bad_options_and_data(extracting, world, tmp_path, capsys):
    data, folder = extracting
    for more, message in ((["--sentences", "0"], "1 sentence or more, not 0"),
                          (["--data", world.text], "no source and target")):  # fmt: skip
        assert main(["evaluate", "--model", folder, "--data", data, *more]) == 2
        assert message in capsys.readouterr().err
    assert main(["predict", "--model", folder, "--sentences", "0", TEXT]) == 2
    argv = ["finetune", "--task", "extractive-summarization", "--model", world.teacher, "--data",
            world.labelled, "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(argv) == 2 and not (tmp_path / "out").exists()
