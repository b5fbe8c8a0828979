"""Questions with choices, from the file to the answers, on tiny models."""

import json
import random

import numpy as np
import pytest
from cli_world import BAD, GOOD, SMALL, sentence

import minidistil as md
from minidistil.cli import main
from minidistil.data.batches import Batching
from minidistil.tasks.multiple_choice.data import Choices, choices_of
from minidistil.tasks.pipeline import pipeline

ASKED = {"question": "which film was great", "choices": ["the dull film", "we loved it", "plot"]}


@pytest.fixture(scope="session")
def choosing(world, tmp_path_factory):
    """Questions with three choices, and a model that has seen them."""
    home, rng = tmp_path_factory.mktemp("choosing"), random.Random(3)
    lines = []
    for _ in range(24):
        label = rng.randrange(3)
        choices = [sentence(rng, GOOD if i == label else BAD)[:40] for i in range(3)]
        lines.append({"question": "which was great", "choices": choices, "label": label})
    data, out = home / "choices.jsonl", home / "chooser"
    data.write_text("\n".join(map(json.dumps, lines)))
    argv = ["finetune", "--task", "multiple-choice", "--model", world.teacher, "--data", str(data),
            "--held-out", "6", "--steps", "3", "--out", str(out), *SMALL]  # fmt: skip
    assert main(argv) == 0
    return str(data), str(out)


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_and_distil(choosing, tmp_path, capsys):
    data, folder = choosing
    found = answer(capsys, "evaluate", "--model", folder, "--data", data, *SMALL)
    assert set(found) == {"loss", "accuracy", "tokens"}
    found = answer(capsys, "distill", "--teacher", folder, "--data", data, "--held-out", 6,
                   "--steps", 2, "--no-labels", "--out", tmp_path / "run", *SMALL)  # fmt: skip
    assert {"accuracy", "agreement"} <= set(found["models"][1])
    assert md.from_pretrained(tmp_path / "run").task == "multiple-choice"


def test_predict_is_the_models_softmax(choosing, capsys):
    folder = choosing[1]
    (found,) = answer(capsys, "predict", "--model", folder, json.dumps(ASKED))
    predict = pipeline("multiple-choice", folder)
    assert found == predict(ASKED) == predict([ASKED])[0]
    tokenizer = predict.tokenizer
    batch = tokenizer([ASKED["question"]] * 3, ASKED["choices"])
    logits = predict.model.forward(**{name: x[None] for name, x in batch.items()}).logits[0]
    p = np.exp(logits) / np.exp(logits).sum()
    assert found["index"] == p.argmax() and found["score"] == pytest.approx(p.max(), rel=1e-5)
    assert found["answer"] == ASKED["choices"][p.argmax()]


def test_batches_hold_every_choice(choosing):
    data, folder = choosing
    tokenizer = md.load_tokenizer(folder)
    found = choices_of(data)
    batch = Choices(found, tokenizer, Batching(999)).collate([4, 1])
    assert batch["input_ids"].shape[:2] == (2, 3)
    assert batch["labels"].tolist() == [found[4].label, found[1].label]
    wanted = tokenizer([found[1].question], [found[1].choices[2]])["input_ids"][0]
    np.testing.assert_array_equal(batch["input_ids"][1, 2, : len(wanted)], wanted)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "who"}, "two choices or more"),
        ({"question": "who", "choices": ["a"]}, "two choices or more"),
        ({"question": "who", "choices": ["a", " "]}, "none of them empty"),
        ({"question": "who", "choices": ["a", "b"], "label": 2}, "0 to 1, not 2"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(ValueError, match=message):
        choices_of(path)


def test_questions_that_do_not_fit_together(choosing):
    data, folder = choosing
    tokenizer, found = md.load_tokenizer(folder), choices_of(data)[:2]
    with pytest.raises(ValueError, match="question 1 has 2 choices, the first 3"):
        fewer = found[1]._replace(choices=found[1].choices[:2])
        Choices([found[0], fewer], tokenizer, Batching(99))
    with pytest.raises(ValueError, match="question 0 has no label"):
        Choices([found[0]._replace(label=None)], tokenizer, Batching(99))
