"""Translation and summarisation from the command line, beginning to end, on a tiny model."""

import json

import pytest
from cli_world import SMALL
from pair_cases import CASES
from pair_cases import model_of as pair_of

import minidistil as md
from minidistil.cli import main

TINY = (*SMALL, "--max-length", "16", "--held-out", "4", "--steps", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    texts = [f"the film was {'so ' * (i % 4)}great" for i in range(24)]
    (folder / "a.en").write_text("\n".join(texts))
    (folder / "a.de").write_text("\n".join(text.replace("film", "plot") for text in texts))
    rows = [{"source": [text, text], "target": [text, "great"]} for text in texts]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def translator(world, data):
    pytest.importorskip("sacrebleu")
    out = data / "translator"
    assert main(["finetune", "--task", "translation", "--model", str(world.teacher),
                 "--out", str(out), *_files(data), *TINY]) == 0  # fmt: skip
    return out


def _files(data):
    return ["--data", str(data / "a.en"), "--target-data", str(data / "a.de")]


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_translator_is_measured_and_asked(translator, data, capsys):
    model = md.from_pretrained(translator)
    assert model.task == "translation"
    assert model.config.decoder.num_hidden_layers == model.config.encoder.num_hidden_layers == 2
    found = answer(capsys, "evaluate", "--model", translator, *_files(data), "--held-out", "4",
                   "--max-length", "16", "--num-beams", "2", "--backend", "numpy")  # fmt: skip
    assert {"loss", "bleu", "tokens"} == set(found)
    (said,) = answer(capsys, "predict", "--model", translator, "the film")
    assert set(said) == {"translation_text"}
    greedy = answer(capsys, "predict", "--model", translator, "the film", "--num-beams", "1",
                    "--max-new-tokens", "3")  # fmt: skip
    how = {"num_beams": 1, "max_new_tokens": 3}
    assert greedy == md.pipeline("translation", translator)("the film", **how) != [said]
    texts = md.pipeline("translation", translator)(["the film", "great"], num_beams=1)
    assert len(texts) == 2 and texts[0].keys() == {"translation_text"}


def test_several_translators_are_refused(translator, data, capsys):
    assert main(["evaluate", *2 * ["--model", str(translator)], *_files(data)]) == 2
    assert "several models do not write one text together" in capsys.readouterr().err


def test_a_summariser_reads_several_sentences(world, data, capsys):
    pytest.importorskip("rouge_score")
    out = data / "summariser"
    found = answer(capsys, "finetune", "--task", "summarization", "--model", world.teacher,
                   "--data", data / "a.jsonl", "--max-target-length", "6", "--decoder-layers", "1",
                   "--out", out, *TINY)  # fmt: skip
    assert {"loss", "rouge1", "rouge2", "rougeL"} == set(found["evaluation"])
    assert md.from_pretrained(out).config.decoder.num_hidden_layers == 1
    assert md.pipeline("summarization", out)("great", max_new_tokens=3)[0].keys() == {
        "summary_text"
    }


def test_info_shows_both_halves(tmp_path, capsys):
    model = pair_of(CASES["pair-distilbert"])
    model.save_pretrained(tmp_path)
    found = answer(capsys, "info", tmp_path)
    shapes = {p["name"]: tuple(p["shape"]) for p in found["table"]}
    assert shapes == {name: p.shape for name, p in model.params.items()}
    assert found["parameters"] == sum(p.size for p in model.params.values())
    assert main(["info", str(tmp_path), str(tmp_path)]) == 0
    assert "decoder.layer.i.cross_q.weight" in capsys.readouterr().out


def test_distillation_word_by_word(translator, data, capsys, tmp_path):
    found = answer(capsys, "distill", "--teacher", translator, *_files(data), "--layers", "0",
                   "--decoder-layers", "1", "--out", tmp_path / "out", *TINY)  # fmt: skip
    names = [row["name"] for row in found["models"]]
    assert names == ["teacher", "distilled student", "same start, no teacher",
                     "random start, no teacher"]  # fmt: skip
    assert all({"bleu", "agreement", "bytes"} <= set(row) for row in found["models"])
    assert found["ce"] > 0 and found["hard"] > 0
    student = md.from_pretrained(tmp_path / "out")
    assert student.config.encoder.num_hidden_layers == student.config.decoder.num_hidden_layers == 1


def test_distillation_text_by_text(translator, data, capsys, tmp_path):
    found = answer(capsys, "distill", "--teacher", translator, *_files(data), "--layers", "0",
                   "--sequence-level", "--num-beams", "2", "--no-baselines", "--alpha-ce", "0",
                   "--alpha-cos", "0", "--out", tmp_path / "out", *TINY)  # fmt: skip
    assert len(found["models"]) == 2 and "ce" not in found
    lines = (tmp_path / "out" / "data" / "taught.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 20 and all(row["target"] for row in rows)


def test_sides_of_unequal_length_leave_nothing(world, data, capsys, tmp_path):
    (tmp_path / "short.de").write_text("eins\n")
    assert main(["finetune", "--task", "translation", "--model", str(world.teacher), "--data",
                 str(data / "a.en"), "--target-data", str(tmp_path / "short.de"), "--out",
                 str(tmp_path / "bad"), "--steps", "1"]) == 2  # fmt: skip
    assert "24 lines" in capsys.readouterr().err and not (tmp_path / "bad").exists()
