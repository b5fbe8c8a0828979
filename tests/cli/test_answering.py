"""Questions whose answers are spans, from the command line and from Python, on tiny models."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from cli_world import BAD, GOOD, SMALL, sentence

import minidistil as md
from minidistil.cli import main
from minidistil.tasks.pipeline import pipeline

ASKED = {"question": "who was great", "context": f"{GOOD} {BAD} " * 4}


@pytest.fixture(scope="session")
def asked(world, tmp_path_factory):
    """A file in SQuAD's format, some answers missing, and a model that has seen it."""
    home, rng = tmp_path_factory.mktemp("asked"), random.Random(2)
    articles = []
    for number in range(12):
        context = sentence(rng, f"{GOOD} {BAD}")
        answer = rng.choice(context.split())
        at = {"text": answer, "answer_start": f" {context} ".index(f" {answer} ")}
        qas = [{"id": f"{number}", "question": "what was loved", "answers": [at]}]
        if number % 3 == 0:
            qas.append({"id": f"no {number}", "question": "who", "is_impossible": True})
        articles.append({"paragraphs": [{"context": context, "qas": qas}]})
    data, out = home / "squad.json", home / "answers"
    data.write_text(json.dumps({"data": articles}))
    argv = ["finetune", "--task", "question-answering", "--model", world.teacher, "--data",
            str(data), "--held-out", "3", "--steps", "3", "--out", str(out), *SMALL]  # fmt: skip
    assert main(argv) == 0
    return str(data), str(out)


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_finetune(asked):
    model = md.from_pretrained(asked[1])
    assert model.task == "question-answering" and model.params["qa_outputs.weight"].shape[0] == 2


def test_evaluate(asked, capsys):
    data, folder = asked
    found = answer(capsys, "evaluate", "--model", folder, "--data", data, *SMALL)
    assert set(found) == {"loss", "exact", "f1", "has_answer_f1", "no_answer_f1", "tokens"}
    wide = answer(capsys, "evaluate", "--model", folder, "--data", data, "--stride", 1, *SMALL)
    assert wide["tokens"] < found["tokens"]


def test_answers_are_as_long_as_one_allows(asked, capsys):
    """In the file an answer is one word: who may say one piece only says more like it."""
    data, folder = asked
    short, long = (
        answer(capsys, "evaluate", "--model", folder, "--data", data, "--longest-answer", n, *SMALL)
        for n in (1, 30)
    )
    assert short["f1"] != long["f1"] and short["loss"] == long["loss"]
    argv = ["evaluate", "--model", folder, "--data", data, "--longest-answer", "0", *SMALL]
    assert main(argv) == 2
    assert "an answer has 1 piece or more, not 0" in capsys.readouterr().err


def test_predict_reads_squad_and_may_say_no_answer(asked, tmp_path, capsys):
    """Options go by the names of evaluate; a file without answers can be answered, too."""
    data, folder = asked
    content = json.loads(Path(data).read_text())
    items = []
    for article in content["data"]:
        for part in article["paragraphs"]:
            for qa in part["qas"]:
                qa.pop("answers", qa.pop("is_impossible", None))
                items.append({"question": qa["question"], "context": part["context"]})
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(content))
    predict = pipeline("question-answering", folder, backend="numpy")
    options = {"handle_impossible_answer": True, "max_answer_len": 1, "max_seq_len": 20,
               "doc_stride": 4}  # fmt: skip
    found = answer(capsys, "predict", "--model", folder, "--data", bare, "--no-answer",
                   "--longest-answer", 1, "--max-length", 20, "--stride", 4, "--backend", "numpy",
                   "--top-k", 40)  # fmt: skip
    wanted = predict(items, top_k=40, **options)
    assert [[a["answer"] for a in x] for x in found] == [[a["answer"] for a in x] for x in wanted]
    assert all("" in [a["answer"] for a in x] for x in found)
    assert main(["evaluate", "--model", folder, "--data", str(bare)]) == 2
    assert "has no answers" in capsys.readouterr().err


@pytest.mark.parametrize("labels", ["--labels", "--no-labels"])
def test_distil(asked, tmp_path, capsys, labels):
    data, folder = asked
    found = answer(capsys, "distill", "--teacher", folder, "--data", data, labels, "--held-out", 3,
                   "--steps", 2, "--out", tmp_path / "run", *SMALL)  # fmt: skip
    assert {"exact", "f1", "agreement"} <= set(found["models"][1])
    assert found["models"][0]["agreement"] == 1
    assert md.from_pretrained(tmp_path / "run").task == "question-answering"


def test_predict(asked, tmp_path, capsys, monkeypatch):
    _, folder = asked
    lines = [json.dumps(ASKED), json.dumps({"question": "who", "context": GOOD})]
    wanted = pipeline("question-answering", folder)([json.loads(line) for line in lines])
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    for given in (lines, ["--data", tmp_path / "in.jsonl"]):
        assert answer(capsys, "predict", "--model", folder, *given) == wanted
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert main(["predict", "--model", folder]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["predict", "--model", folder, "who?"]) == 2
    assert "text 0: not JSON" in capsys.readouterr().err


def test_predict_lines_goes_on_past_bad_ones(asked, tmp_path, capsys, monkeypatch):
    _, folder = asked
    second = {"question": "who", "context": GOOD}
    wanted = [pipeline("question-answering", folder)(item) for item in (ASKED, second)]
    given = [json.dumps(ASKED), "{broken", "", "[1]", '{"question": "no context"}']
    given.append(json.dumps(second))
    (tmp_path / "in.jsonl").write_text("\n".join(given))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(given).encode())))
    for more in ([], ["--data", str(tmp_path / "in.jsonl")]):
        assert main(["predict", "--model", str(folder), "--lines", *more]) == 2
        out, err = capsys.readouterr()
        for found, expected in zip(map(json.loads, out.splitlines()), wanted, strict=True):
            assert found["answer"] == expected["answer"]
            assert found["score"] == pytest.approx(expected["score"], rel=1e-4)
        assert [f"line {n}: " in err for n in range(1, 7)] == [
            False,
            True,
            False,
            True,
            True,
            False,
        ]
        assert "3 of 5 items have no answer" in err
    (tmp_path / "in.jsonl").write_text("\n".join([given[0], given[-1]]))
    assert main(["predict", "--model", str(folder), "--lines", *more]) == 0
    assert not capsys.readouterr().err
    assert main(["predict", "--model", str(folder), "--lines", given[0]]) == 2
    assert "give no texts as arguments" in capsys.readouterr().err


def test_answers_are_spans_of_the_text(asked):
    predict = pipeline("question-answering", asked[1])
    one = predict(ASKED)
    assert set(one) == {"score", "start", "end", "answer"}
    assert one["answer"] == ASKED["context"][one["start"] : one["end"]] and 0 < one["score"] < 1
    assert predict(**ASKED) == one and predict([ASKED]) == [one]
    many = predict(ASKED, top_k=5, handle_impossible_answer=True)
    assert len(many) == 5
    scores = [found["score"] for found in many]
    assert scores == sorted(scores, reverse=True)


def test_one_window_gives_the_models_own_probabilities(asked):
    """score = p(start)·p(end), each a softmax over the text's pieces."""
    predict = pipeline("question-answering", asked[1], backend="numpy")
    best = predict(question="who", context=GOOD, max_answer_len=99)
    encoding = predict.tokenizer.encodings(["who"], [GOOD])[0]
    out = predict.model.forward(
        np.array([encoding.ids]), token_type_ids=np.array([encoding.type_ids])
    )
    inside = np.array([kind == 1 for kind in encoding.sequence_ids])
    start, end = (
        np.exp(z[0][inside]) / np.exp(z[0][inside]).sum()
        for z in (out.start_logits, out.end_logits)
    )
    assert best["score"] == pytest.approx(np.triu(np.outer(start, end)).max(), rel=1e-4)


@pytest.mark.parametrize(
    "inputs", [[], "text", {"question": "who"}, {"question": "", "context": "x"}, [ASKED, 3]]
)
def test_bad_inputs(asked, inputs):
    with pytest.raises(ValueError):
        pipeline("question-answering", asked[1])(inputs)
