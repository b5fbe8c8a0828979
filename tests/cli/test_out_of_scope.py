"""evaluate and predict --out-of-scope, on a classifier of two classes."""

import json

import pytest

from minidistil.cli import main
from minidistil.tasks.pipeline import pipeline

OTHERS = ("plot plot watch", "awful in it", "to the the")


@pytest.fixture(scope="module")
def mixed(world, tmp_path_factory):
    """The classifier's texts, and some that are labelled oos."""
    path = tmp_path_factory.mktemp("scope") / "mixed.tsv"
    with open(world.labelled) as labelled:
        path.write_text(labelled.read() + "".join(f"{text}\toos\n" for text in OTHERS))
    return str(path)


def evaluated(capsys, world, data, threshold):
    argv = ["evaluate", "--model", world.classifier, "--data", data, "--backend", "numpy",
            "--out-of-scope", str(threshold), "--json"]  # fmt: skip
    assert main(argv) == 0
    return json.loads(capsys.readouterr().out)


def test_nothing_and_everything_is_refused(capsys, world, mixed):
    none, every = (evaluated(capsys, world, mixed, t) for t in (0, 1))
    assert (none["in_scope"], none["out_of_scope"]) == (40, 3)
    assert none["out_of_scope_recall"] == 0 and every["out_of_scope_recall"] == 1
    assert none["in_scope_accuracy"] == none["in_scope_accuracy_without"] > 0
    assert every["in_scope_accuracy"] == 0


def test_the_chosen_threshold_is_the_best_and_can_be_given(capsys, world, mixed):
    chosen = evaluated(capsys, world, mixed, "choose")
    assert evaluated(capsys, world, mixed, chosen["threshold"]) == chosen
    others = [evaluated(capsys, world, mixed, t)["accuracy"] for t in (0, 0.5, 0.52, 0.6)]
    assert chosen["accuracy"] >= max(others)


def test_the_predictor_refuses(world):
    predict = pipeline("text-classification", world.classifier, backend="numpy")
    (plain,) = predict(["the film was great"])
    assert predict(["the film was great"], out_of_scope=plain["score"]) == [plain]
    (ranked,) = predict(["the film was great"], top_k=None)
    (refused,) = predict(["the film was great"], top_k=None, out_of_scope=1.0)
    assert refused == [{"label": "out of scope", "score": plain["score"]}, *ranked]
    with pytest.raises(ValueError, match="must be a probability, 0 to 1, not 2"):
        predict("the film", out_of_scope=2)


def test_predict_says_so(capsys, world):
    argv = ["predict", "--model", world.classifier, "--out-of-scope", "1", "the film"]
    assert main([*argv, "--backend", "numpy"]) == 0
    assert capsys.readouterr().out.startswith("out of scope 0.")


def test_bad_input(capsys, world):
    argv = ["evaluate", "--data", world.labelled, "--backend", "numpy", "--out-of-scope"]
    for model, threshold, said in (
        (world.classifier, "3", "must be a probability, 0 to 1, or choose, not '3'"),
        (world.classifier, "0.5", "40 texts with an intent and 0 labelled 'oos'"),
        (
            world.teacher,
            "0.5",
            "is for text-classification with one label for each text, not fill-mask",
        ),
    ):
        assert main([*argv, threshold, "--model", model]) == 2
        assert said in capsys.readouterr().err
