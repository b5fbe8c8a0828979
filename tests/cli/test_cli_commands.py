"""Every command from beginning to end, on a tiny teacher."""

import io
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_world import SIZES, SMALL

import minidistil as md
from minidistil.cli import COMMANDS, main, parser_of
from minidistil.train import loop

RUN_FILES = {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "run.json",
             "metrics.jsonl", "report.json", "report.html", "checkpoints"}  # fmt: skip


def run(capsys, *argv):
    """Exit code, stdout."""
    code = main([str(x) for x in argv])
    return code, capsys.readouterr().out


def answer(capsys, *argv):
    code, out = run(capsys, *argv, "--json")
    assert code == 0
    return json.loads(out)


# ------------------------------------------------------- help


def test_overview_lists_every_command(capsys):
    code, out = run(capsys, "--help")
    assert code == 0 and all(name in out for name in COMMANDS)


def test_no_command_is_bad_input(capsys):
    assert run(capsys)[0] == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    example = capsys.readouterr().out.split("example:\n")[1].strip()
    start, command, *argv = shlex.split(example)
    assert (start, command) == ("minidistil", name)
    parser_of(name).parse_args(argv)


# ------------------------------------------------------- pretrain


def test_pretrain_writes_a_run_folder(world):
    assert {p.name for p in Path(world.teacher).iterdir()} >= RUN_FILES
    assert not [p for p in Path(world.teacher).rglob("*") if p.name.startswith(".")]
    model = md.from_pretrained(world.teacher)
    assert model.task == "fill-mask" and model.config.num_hidden_layers == 2
    report = json.loads((Path(world.teacher) / "report.json").read_text())
    assert report["steps"] == 2 and set(report["evaluation"]) == {"loss", "accuracy"}


def test_pretrain_keeps_capitals_and_accents_if_asked(tmp_path):
    text = tmp_path / "both.txt"
    lines = "Zwei Männer sitzen auf der Straße vor dem Café und lesen in aller Ruhe Bücher.\n"
    text.write_text(lines * 40, encoding="utf-8")
    argv = ["pretrain", "--cased", "--data", str(text), "--out", str(tmp_path / "run")]
    assert main([*argv, *SIZES, *SMALL, "--held-out", "4", "--steps", "1"]) == 0
    tokenizer = md.load_tokenizer(tmp_path / "run")
    ids = tokenizer(["Zwei Männer"])["input_ids"][0]
    assert tokenizer.decode(ids) == "Zwei Männer" and not tokenizer.lowercase


def test_pretrain_resumes_with_the_same_bits(world, tmp_path, monkeypatch):
    argv = ["pretrain", "--data", world.text, *SIZES, *SMALL, "--steps", "6", "--checkpoint-every",
            "2", "--curriculum", "8:100,16:150", "--sinusoidal"]  # fmt: skip
    assert main([*argv, "--out", str(tmp_path / "whole")]) == 0
    step = loop.Loop.step

    def dies(self):
        if self.state["step"] == 5:
            raise RuntimeError
        step(self)

    monkeypatch.setattr(loop.Loop, "step", dies)
    with pytest.raises(RuntimeError):
        main([*argv, "--out", str(tmp_path / "cut")])
    monkeypatch.undo()
    assert main(["pretrain", "--out", str(tmp_path / "cut"), "--resume"]) == 0
    whole, cut = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("whole", "cut"))
    assert whole == cut


def test_a_trained_model_goes_on_in_half_precision(world, tmp_path, capsys):
    found = answer(
        capsys,
        "pretrain",
        "--model",
        world.teacher,
        "--data",
        world.text,
        "--steps",
        1,
        "--max-length",
        32,
        "--store",
        "float16",
        "--out",
        tmp_path / "on",
        *SMALL,
    )
    assert found["step"] == 1
    big, small = (
        Path(f, "model.safetensors").stat().st_size for f in (world.teacher, tmp_path / "on")
    )
    assert small < 0.7 * big


# ------------------------------------------------------- distill


def test_distill_compares_the_student_with_those_without_a_teacher(world, tmp_path, capsys):
    out = tmp_path / "run"
    code, text = run(capsys, "distill", "--teacher", world.teacher, "--data", world.text,
                     "--steps", 3, "--out", out, *SMALL)  # fmt: skip
    assert code == 0
    names = ["teacher", "distilled student", "same start, no teacher", "random start, no teacher"]
    assert all(name in text for name in names)
    assert {p.name for p in out.iterdir()} >= RUN_FILES
    rows = json.loads((out / "report.json").read_text())["models"]
    assert [row["name"] for row in rows] == names
    assert set(rows[0]) == {"name", "loss", "accuracy", "agreement", "kept", "parameters",
                            "bytes", "tokens_per_second"}  # fmt: skip
    assert rows[0]["agreement"] == 1 and rows[1]["parameters"] < rows[0]["parameters"]
    student = md.from_pretrained(out)
    assert student.config.model_type == "distilbert" and student.config.n_layers == 1
    again = answer(capsys, "distill", "--out", out, "--resume")
    assert [row["loss"] for row in again["models"]] == [row["loss"] for row in rows]


def test_a_budget_in_minutes_becomes_steps(world, tmp_path, capsys):
    found = answer(capsys, "distill", "--teacher", world.teacher, "--data", world.text,
                   "--minutes", 0.02, "--no-baselines", "--out", tmp_path / "run",
                   *SMALL)  # fmt: skip
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["plan"]["steps"] == found["steps"] >= 1
    assert stored["options"]["minutes"] == 0.02
    assert [row["name"] for row in found["models"]] == ["teacher", "distilled student"]


def test_a_student_of_another_shape(world, tmp_path, capsys):
    fields = json.loads(Path(world.teacher, "config.json").read_text())
    config = tmp_path / "small.json"
    config.write_text(json.dumps({
        "model_type": "distilbert", "vocab_size": fields["vocab_size"], "dim": 8, "n_heads": 2,
        "n_layers": 1, "hidden_dim": 16, "max_position_embeddings": 32,
    }))  # fmt: skip
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--steps", 1,
            "--student-config", config, "--restrict-ce-to-mask", *SMALL]  # fmt: skip
    code, _ = run(capsys, *argv, "--out", tmp_path / "refused")
    assert code == 2 and not (tmp_path / "refused").exists()
    found = answer(capsys, *argv, "--alpha-cos", 0, "--out", tmp_path / "run")
    assert len(found["models"]) == 3  # starting at random is the same start
    found = answer(capsys, *argv, "--layers", 1, "--alpha-cos", 0, "--out", tmp_path / "layers")
    assert len(found["models"]) == 4


@pytest.mark.parametrize("labels", ["--labels", "--no-labels"])
def test_a_classifier_is_distilled(world, tmp_path, capsys, labels):
    found = answer(capsys, "distill", "--teacher", world.classifier, "--data", world.labelled,
                   labels, "--held-out", 8, "--steps", 2, "--out", tmp_path / "run",
                   *SMALL)  # fmt: skip
    assert ("macro_f1" in found["models"][1]) == (labels == "--labels")
    assert 0 <= found["models"][1]["agreement"] <= 1
    config = md.from_pretrained(tmp_path / "run").config
    assert config.id2label == ("bad", "good")


# ------------------------------------------------------- the other commands


def test_students_are_measured_on_other_data(world, tmp_path, capsys):
    how = ("--data", world.labelled, "--eval-data", world.labelled, *SMALL)
    found = answer(capsys, "distill", "--teacher", world.classifier, "--steps", 2, "--out",
                   tmp_path / "run", *how)  # fmt: skip
    for row, folder in zip(found["models"], (world.classifier, tmp_path / "run"), strict=False):
        alone = answer(capsys, "evaluate", "--model", folder, "--data", world.labelled, *SMALL)
        assert {name: row[name] for name in ("loss", "accuracy")} == {
            name: alone[name] for name in ("loss", "accuracy")
        }
    code, _ = run(capsys, "distill", "--data", world.text, "--eval-data", world.text, "--teacher",
                     world.teacher, "--out", tmp_path / "words", *SMALL)  # fmt: skip
    assert code == 2 and not (tmp_path / "words").exists()


def test_finetune_names_the_labels(world):
    model = md.from_pretrained(world.classifier)
    assert model.task == "text-classification" and model.config.id2label == ("bad", "good")


def test_finetune_a_regression(world, tmp_path, capsys):
    data = tmp_path / "stars.csv"
    data.write_text("text,stars\n" + "".join(f"a film of {n} stars,{n}\n" for n in range(1, 9)))
    found = answer(capsys, "finetune", "--model", world.teacher, "--data", data, "--label-column",
                   "stars", "--problem-type", "regression", "--eval-data", data, "--steps", 1,
                   "--out", tmp_path / "run", *SMALL)  # fmt: skip
    assert set(found["evaluation"]) == {"loss", "mse", "pearson", "spearman"}


def test_finetune_on_text(world, tmp_path, capsys):
    found = answer(capsys, "finetune", "--task", "fill-mask", "--model", world.teacher, "--data",
                   world.text, "--steps", 1, "--out", tmp_path / "run", *SMALL)  # fmt: skip
    assert set(found["evaluation"]) == {"loss", "accuracy"}


def test_evaluate_both_tasks(world, capsys):
    words = answer(capsys, "evaluate", "--model", world.teacher, "--data", world.text, *SMALL)
    assert 0 < words["loss"] < 10
    classes = answer(capsys, "evaluate", "--model", world.classifier, "--data", world.labelled,
                     *SMALL)  # fmt: skip
    assert set(classes) == {"loss", "accuracy", "macro_f1", "matthews", "tokens"}


def test_evaluate_repeats_the_number_of_the_run(world, capsys):
    stored = json.loads((Path(world.teacher) / "report.json").read_text())["evaluation"]
    found = answer(capsys, "evaluate", "--model", world.teacher, "--data", world.text,
                   "--held-out", 0.02, *SMALL)  # fmt: skip
    assert found["loss"] == pytest.approx(stored["loss"], rel=1e-6)


def test_predict_from_arguments_file_and_stdin(world, tmp_path, capsys, monkeypatch):
    texts = ["a great film", "a dull plot"]
    given = answer(capsys, "predict", "--model", world.classifier, *texts)
    (tmp_path / "in.txt").write_text("\n".join(texts))
    assert given == answer(capsys, "predict", "--model", world.classifier, "--data",
                           tmp_path / "in.txt")  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    code, out = run(capsys, "predict", "--model", world.classifier)
    assert code == 0 and [line.split("\t")[1] for line in out.splitlines()] == texts
    assert set(given[0]) == {"label", "score"}


def test_predict_vectors(world, capsys):
    (vectors,) = answer(capsys, "predict", "--model", world.teacher, "--task", "feature-extraction",
                        "the film")  # fmt: skip
    assert np.shape(vectors) == (1, 4, 16)


def test_fill_mask(world, capsys):
    words = answer(capsys, "fill-mask", "--model", world.teacher, "--top-k", 3, "it was [MASK]")
    assert len(words) == 3 and set(words[0]) == {"score", "token", "token_str", "sequence"}
    code, out = run(capsys, "fill-mask", "--model", world.teacher, "the [MASK] was [MASK]")
    assert code == 0 and out.count("word") == 2


def test_info_of_one_and_of_two(world, capsys):
    one = answer(capsys, "info", world.teacher)
    assert sum(p["share"] for p in one["table"]) == pytest.approx(1)
    assert sum(p["bytes"] for p in one["table"]) == one["bytes"] == 4 * one["parameters"]
    code, out = run(capsys, "info", world.teacher, world.classifier)
    assert code == 0 and "pooler.weight" in out and "transform.weight" in out
    assert f"{one['processor']}, matrix products on {one['instructions']}" in out


def test_report_is_written_anew_and_escapes(world, capsys):
    page = Path(world.teacher) / "report.html"
    page.unlink()
    assert run(capsys, "report", world.teacher)[0] == 0
    assert page.read_text().count("<table>") == 2


def test_report_says_when_matplotlib_is_missing(world, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(capsys, "report", world.teacher)[0] == 0
    assert "pip install matplotlib" in (Path(world.teacher) / "report.html").read_text()


def test_without_out_each_run_gets_a_folder_of_its_own(world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ("finetune", "--task", "fill-mask", "--model", world.teacher, "--data", world.text,
            "--steps", 1, *SMALL)  # fmt: skip
    found = [answer(capsys, *argv)["out"] for _ in range(2)]
    assert found == [str(Path("runs") / "finetune"), str(Path("runs") / "finetune-2")]


# ------------------------------------------------------- several models at once


def test_several_teachers_and_an_ensemble(world, tmp_path, capsys):
    argv = ["distill", "--teacher", world.classifier, "--teacher", world.classifier, "--data",
            world.labelled, "--held-out", 8, "--steps", 2, "--convention", "pkd", "--vary",
            "temperature=linear:8:2", "--out", tmp_path / "run", *SMALL]  # fmt: skip
    code, _ = run(capsys, *argv)
    assert code == 2 and not (tmp_path / "run").exists()
    argv += ["--alpha-cos", 0, "--teacher-weights", "0.7,0.3"]
    found = answer(capsys, *argv)
    assert found["models"][0]["agreement"] == 1 and found["temperature"] == 5
    resume = ("distill", "--out", tmp_path / "run", "--resume", "--teacher", world.classifier)
    code, _ = run(capsys, *resume)
    assert code == 2  # one teacher is not the two that it began with
    again = answer(capsys, *resume, *resume[-2:], "--temperature", "2", "--held-out", 8)
    assert [r["loss"] for r in again["models"]] == [r["loss"] for r in found["models"]]
    how = ("--data", world.labelled, *SMALL)
    alone = answer(capsys, "evaluate", "--model", world.classifier, *how)
    twice = answer(capsys, "evaluate", *2 * ("--model", world.classifier), *how)
    assert twice["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    folders = world.classifier, [world.classifier] * 2
    one, two = (md.pipeline("text-classification", folder) for folder in folders)
    assert two("a dull plot")[0]["score"] == pytest.approx(one("a dull plot")[0]["score"])
    argv = ["evaluate", "--model", world.classifier, "--model", str(tmp_path / "none"), *how]
    assert main(argv) == 2


def test_answers_of_a_teacher_are_kept_for_the_next_student(world, tmp_path, capsys):
    for task, data, cos in (("classifier", world.labelled, 1), ("teacher", world.text, 0)):
        argv = ["distill", "--teacher", getattr(world, task), "--data", data, "--held-out", 8,
                "--steps", 3, "--no-baselines", "--cache-teacher", tmp_path / task, "--alpha-cos",
                cos, *SMALL]  # fmt: skip
        first = answer(capsys, *argv, "--out", tmp_path / f"{task}1")
        kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / task).iterdir()}
        again = answer(capsys, *argv, "--out", tmp_path / f"{task}2", "--alpha-ce", 1)
        assert kept == {p.name: p.stat().st_mtime_ns for p in (tmp_path / task).iterdir()}
        assert again["ce"] != first["ce"]
        assert (
            main([str(a) for a in [*argv, "--cache-format", "half", "--out", tmp_path / "x"]]) == 2
        )
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "was kept as whole, this run needs half" in said
        assert not (tmp_path / "x").exists()
    small = answer(capsys, *argv, "--cache-teacher", tmp_path / "top", "--cache-format", "top8",
                   "--out", tmp_path / "top1")  # fmt: skip
    assert small["loss"] > 0


def test_a_student_with_a_tokenizer_of_its_own(world, tmp_path, capsys):
    other, text = tmp_path / "other", tmp_path / "other.txt"
    text.write_text("\n".join(["she sold seven sea shells by the sea shore in a fine " * 2] * 60))
    argv = ["pretrain", "--data", text, "--steps", 1, *SIZES, "--out", other, *SMALL]
    assert run(capsys, *argv)[0] == 0
    argv = ["distill", "--teacher", world.classifier, "--student", other, "--data", world.labelled,
            "--held-out", 8, "--steps", 2, *SMALL]  # fmt: skip
    refused = main([str(a) for a in [*argv, "--out", tmp_path / "x"]])
    said = capsys.readouterr().err
    assert refused == 2 and "words of their own; set alpha_cos to 0" in said
    cache = ["--alpha-cos", 0, "--cache-teacher", tmp_path / "cache"]
    found = answer(capsys, *argv, *cache, "--out", tmp_path / "run")
    assert found["models"][0]["agreement"] == 1 and "macro_f1" in found["models"][1]
    model, tokenizer = md.from_pretrained(tmp_path / "run"), md.load_tokenizer(tmp_path / "run")
    assert model.config.id2label == ("bad", "good")
    assert tokenizer.vocab_size == model.config.vocab_size < 100
    words = ["distill", "--teacher", world.teacher, "--student", other, "--data", world.text]
    assert main([str(a) for a in [*words, *SMALL, "--out", tmp_path / "x"]]) == 2
    assert "compared token by token; only for text-classification" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
