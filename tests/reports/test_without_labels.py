"""Distilling on data without labels, which is what a teacher is for: end to end, on the command
line."""

import json

import numpy as np
import pytest
from training_world import (
    QUICK,
    answer,
    image_file,
    labelled_file,
    model_folder,
    sentences,
    text_file,
)

import minidistil as md
from minidistil.cli import main
from minidistil.train.run_folder import Run


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("classifier"), "text-classification")


def distil(capsys, teacher, data, out, *more):
    return answer(capsys, "distill", "--teacher", teacher, "--data", data, "--out", out, *QUICK,
                  *more)  # fmt: skip


def names(found):
    return [row["name"] for row in found["models"]]


def test_a_classifier_on_texts(tmp_path, capsys, classifier):
    """Was: trained to the end, then "a training step needs labels", and no student was saved.
    Right: the student is there, the students without a teacher are left out with a word."""
    out = tmp_path / "run"
    found, said = distil(capsys, classifier, text_file(tmp_path / "texts.txt"), out)
    assert names(found) == ["teacher", "distilled student"]
    assert "agreement" in found["models"][1] and "accuracy" not in found["models"][1]
    assert "the data has no labels: no student is trained without the teacher" in said
    assert md.from_pretrained(str(out)).config.id2label == ("bad", "good")
    assert (out / "report.html").exists()
    assert main(["report", str(out)]) == 0


def test_no_labels_wanted(tmp_path, capsys, classifier):
    """Was: the students without a teacher were missing without a word. Right: it is said why, and
    labels that the teacher does not know do no harm."""
    data = labelled_file(tmp_path / "labelled.tsv", of=("0 stars", "5 stars"))
    found, said = distil(capsys, classifier, data, tmp_path / "run", "--no-labels")
    assert "--no-labels leaves the labels unread: no student is trained" in said
    assert names(found) == ["teacher", "distilled student"] and "hard" not in found


def test_texts_to_learn_on_and_labels_to_evaluate_on(tmp_path, capsys, classifier):
    """Was: --eval-data lost its labels. Right: they are measured on."""
    evaluation = labelled_file(tmp_path / "dev.tsv")
    found, _ = distil(capsys, classifier, text_file(tmp_path / "texts.txt"), tmp_path / "run",
                      "--eval-data", evaluation)  # fmt: skip
    assert {"accuracy", "loss", "agreement"} <= set(found["models"][1])


def test_a_run_is_resumed_without_baselines(tmp_path, capsys, classifier):
    """Was: "a resumed run keeps the options it began with: --baselines was True, now False".
    Right: it changes no number of the student, so it may change."""
    out, data = tmp_path / "run", labelled_file(tmp_path / "labelled.tsv")
    distil(capsys, classifier, data, out, "--checkpoint-every", "1")
    weights = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()
    found, _ = answer(capsys, "distill", "--out", out, "--resume", "--no-baselines")
    assert names(found) == ["teacher", "distilled student"]
    assert (out / "model.safetensors").read_bytes() == weights
    assert Run(out, resume=True).options["baselines"] is True
    line = main(["distill", "--out", str(out), "--resume", "--lr", "1"]), capsys.readouterr().err
    assert line[0] == 2 and "--lr was" in line[1]


def test_a_student_is_saved_before_the_next_is_trained(tmp_path, capsys, classifier, monkeypatch):
    """Was: a baseline that failed took the trained student with it. Right: it is saved first."""
    data, trained = labelled_file(tmp_path / "labelled.tsv"), []

    def fails(objective, *args, run, **options):
        if trained:
            raise FloatingPointError("loss became nan in step 1")
        trained.append(objective)
        return run_loop(objective, *args, run=run, **options)

    from minidistil.cli import students
    from minidistil.train.loop import run_loop

    monkeypatch.setattr(students, "run_loop", fails)
    code = main(["distill", "--teacher", classifier, "--data", data, "--out",
                 str(tmp_path / "run"), *QUICK])  # fmt: skip
    assert code == 1 and "became nan" in capsys.readouterr().err
    md.from_pretrained(str(tmp_path / "run"))


def test_choices(tmp_path, capsys):
    """Was: "question 0 has no label". Right: the teacher chooses."""
    teacher = model_folder(tmp_path / "teacher", "multiple-choice")
    texts, data = sentences(60), tmp_path / "choices.jsonl"
    rows = [{"question": texts[3 * i], "choices": texts[3 * i + 1 : 3 * i + 3]} for i in range(20)]
    data.write_text("\n".join(map(json.dumps, rows)))
    found, said = distil(capsys, teacher, data, tmp_path / "run", "--held-out", "4")
    assert names(found) == ["teacher", "distilled student"] and "no labels" in said
    assert "agreement" in found["models"][1] and "accuracy" not in found["models"][1]


@pytest.mark.parametrize("kind", ["words.txt", "words.jsonl"])
def test_words_without_tags(tmp_path, capsys, kind):
    """Was: "'the' has no tag behind the word". Right: the teacher tags them; evaluation compares
    the two models' tags, and takes tags where the file to evaluate on has them."""
    teacher, data = model_folder(tmp_path / "teacher", "token-classification"), tmp_path / kind
    split, dev = [text.split() for text in sentences(20)], tmp_path / "dev.conll"
    lines = [json.dumps({"tokens": words}) for words in split]
    data.write_text("\n".join(lines if "jsonl" in kind else ["\n".join([*w, ""]) for w in split]))
    found, said = distil(capsys, teacher, data, tmp_path / "run", "--held-out", 4)
    assert names(found) == ["teacher", "distilled student"] and "no labels" in said
    assert "agreement" in found["models"][1] and "accuracy" not in found["models"][1]
    dev.write_text("\n".join(f"{word}\tgood" for word in split[0]) + "\n")
    found, _ = distil(capsys, teacher, data, tmp_path / "other", "--eval-data", dev)
    assert {"agreement", "accuracy"} <= set(found["models"][1])


def test_questions_without_answers(tmp_path, capsys):
    """Was: "question 0 has no answers". Right: the teacher answers, and the answers of both are
    compared."""
    teacher, data = model_folder(tmp_path / "teacher", "question-answering"), tmp_path / "qa.json"
    texts = sentences(40)
    articles = [
        {"paragraphs": [{"context": texts[i], "qas": [{"id": str(i), "question": "what was it"}]}]}
        for i in range(40)
    ]
    data.write_text(json.dumps({"data": articles}))
    found, said = distil(capsys, teacher, data, tmp_path / "run", "--held-out", 8, "--stride", 2)
    assert names(found) == ["teacher", "distilled student"] and "no labels" in said
    assert "agreement" in found["models"][1] and "f1" not in found["models"][1]
    articles[0]["paragraphs"][0]["qas"][0]["is_impossible"] = True  # now answers are asked for
    data.write_text(json.dumps({"data": articles}))
    code = main(["distill", "--teacher", teacher, "--data", str(data), "--out",
                 str(tmp_path / "other"), *QUICK])  # fmt: skip
    assert code == 2 and "has no answers" in capsys.readouterr().err


def test_images(tmp_path, capsys):
    """Was: trained to the end, then a KeyError. Right: the teacher classifies."""
    labelled = image_file(tmp_path / "labelled.npz")
    plain, quick = image_file(tmp_path / "plain.npz", labels=False), QUICK[:-2]
    teacher = tmp_path / "teacher"
    answer(capsys, "finetune", "--task", "image-classification", "--data", labelled, "--out",
           teacher, "--held-out", 4, *quick)  # fmt: skip
    found, said = answer(capsys, "distill", "--teacher", teacher, "--data", plain, "--out",
                         tmp_path / "run", "--held-out", 4, *quick)  # fmt: skip
    assert names(found) == ["teacher", "distilled student"] and "no labels" in said


def test_words_whose_text_is_not_asked_for():
    """Was: distill_step asked for labels that no loss looked at. Right: with alpha_mlm 0 a batch
    needs none, and the losses are those of a batch that has some."""
    config = md.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, intermediate_size=12,
                           num_attention_heads=2, max_position_embeddings=9)  # fmt: skip
    teacher = md.from_config(config, backend="numpy")
    student = md.student_from(teacher, (0,))
    ids = np.random.default_rng(0).integers(1, 20, (2, 7))
    batch, losses = {"input_ids": ids}, md.DistillConfig(alpha_mlm=0.0)
    bare = md.distill_step(student, teacher, batch, losses)
    assert bare.loss == md.distill_step(student, teacher, {**batch, "labels": ids}, losses).loss
    for wanted in ({"restrict_ce_to_mask": True}, {"alpha_mlm": 1.0}):
        with pytest.raises(ValueError, match="needs labels in the batch; without them set"):
            md.distill_step(student, teacher, batch, md.DistillConfig(**wanted))
