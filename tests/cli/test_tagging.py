"""Named entities from the command line and from Python, on tiny models."""

import json
import random

import numpy as np
import pytest
from cli_world import GOOD, SMALL
from families_world import FAMILIES, family_folder
from test_pipeline import ours, same, theirs

import minidistil as md
from minidistil.cli import main
from minidistil.tasks.pipeline import pipeline
from minidistil.tasks.token_classification.predictor import STRATEGIES

MERGED = {  # in which no piece is a space alone
    "roberta": [
        "the dog jumps",
        "quick foxes jump dogged",
        "the lazy dogs jumping quickest dogged",
    ],
    "albert": ["lazy fox", "quick dogs and a lazy jump", "sleeping foxes a quicker dog"],
}
MARKED = ["the film.\nactors", "we (loved) it, what a film!"]
TEXTS = ["the film was great", "we loved the actors in it and what a dull plot", "actors zzz"]


@pytest.fixture(scope="session")
def tagged(world, tmp_path_factory):
    """Sentences in which actors are persons and films works, and a model that has seen them."""
    home, rng = tmp_path_factory.mktemp("tagged"), random.Random(1)
    tags = {"actors": "B-person", "film": "B-work", "great": "I-work"}
    sentences = [rng.choices(GOOD.split(), k=rng.randint(3, 9)) for _ in range(40)]
    text = "\n\n".join(
        "\n".join(f"{word}\t{tags.get(word, 'O')}" for word in words) for words in sentences
    )
    data, out = home / "data.conll", home / "tagger"
    data.write_text(text + "\n")
    argv = ["finetune", "--task", "token-classification", "--model", world.teacher, "--data",
            str(data), "--held-out", "8", "--steps", "3", "--out", str(out), *SMALL]  # fmt: skip
    assert main(argv) == 0
    return str(data), str(out)


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_finetune_names_the_tags(tagged):
    model = md.from_pretrained(tagged[1])
    assert model.task == "token-classification"
    assert model.config.id2label == ("O", "B-person", "B-work", "I-work")


def test_evaluate(tagged, capsys):
    data, folder = tagged
    found = answer(capsys, "evaluate", "--model", folder, "--data", data, *SMALL)
    assert set(found) == {"loss", "accuracy", "precision", "recall", "f1", "tokens"}
    part = answer(capsys, "evaluate", "--model", folder, "--data", data, "--held-out", 8, *SMALL)
    assert part["tokens"] < found["tokens"]


@pytest.mark.parametrize("labels", ["--labels", "--no-labels"])
def test_distil(tagged, tmp_path, capsys, labels):
    data, folder = tagged
    found = answer(capsys, "distill", "--teacher", folder, "--data", data, labels, "--held-out", 8,
                   "--steps", 2, "--out", tmp_path / "run", *SMALL)  # fmt: skip
    assert {"f1", "agreement"} <= set(found["models"][1])
    assert len(found["models"]) == (4 if labels == "--labels" else 2)
    student = md.from_pretrained(tmp_path / "run")
    assert student.config.model_type == "distilbert" and student.task == "token-classification"


def test_predict(tagged, capsys):
    _, folder = tagged
    found = answer(capsys, "predict", "--model", folder, *TEXTS)
    assert found == pipeline("token-classification", folder)(TEXTS)
    assert main(["predict", "--model", folder, "--aggregation-strategy", "simple", *TEXTS]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["predict", "--model", folder, "--top-k", "2", *TEXTS]) == 2
    assert "--top-k is not for token-classification" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_answers_are_transformers(tagged):
    task = "token-classification"
    mine, other = ours(task, tagged[1]), theirs(task, tagged[1])
    for options in ({}, {"ignore_labels": []}):
        for how in STRATEGIES:
            for inputs in (TEXTS[1], TEXTS[:1], TEXTS, MARKED):
                options = options | {"aggregation_strategy": how}
                same(mine(inputs, **options), plain(other(inputs, **options)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_other_tokenizers(family, tmp_path):
    """Pieces that bear no mark make words by the tokenizer's numbers. (transformers parts them at
    spaces, and so a piece that is a space alone from its word: here is none.)"""
    task = "token-classification"
    folder = family_folder(family, tmp_path, task)
    mine, other = ours(task, folder), theirs(task, folder)
    for how in STRATEGIES:
        options = {"aggregation_strategy": how, "ignore_labels": []}
        same(mine(MERGED[family], **options), plain(other(MERGED[family], **options)))


def test_a_word_has_one_tag(tagged):
    """Of several pieces: that of the first, of their mean, of the surest."""
    predict, text = ours("token-classification", tagged[1]), "watchactorsloved"
    assert len(predict(text, ignore_labels=[])) > 2
    logits = next(predict.results([text]))[-1].logits[1:-1]
    scores = predict.model.ops.softmax.forward(logits)[0]
    surest = np.unravel_index(scores.argmax(), scores.shape)[0]
    right = {"first": scores[0], "average": scores.mean(axis=0), "max": scores[surest]}
    for how, p in right.items():
        (word,) = predict(text, aggregation_strategy=how, ignore_labels=[])
        assert (word["start"], word["end"], word["word"]) == (0, len(text), text)
        tag = predict.model.config.id2label[int(p.argmax())]
        assert word["entity_group"] == tag.split("-")[-1]
        assert word["score"] == pytest.approx(p.max(), rel=1e-6)


def plain(answer):
    """transformers' float32 scores as floats, which is what JSON holds."""
    if isinstance(answer, list):
        return [plain(x) for x in answer]
    return {name: float(x) if name == "score" else x for name, x in answer.items()}


def test_an_unknown_strategy_is_refused(tagged):
    with pytest.raises(ValueError, match="none, simple, first, average, max, not 'last'"):
        ours("token-classification", tagged[1])(TEXTS, aggregation_strategy="last")
