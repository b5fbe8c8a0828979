"""Sentence vectors from the command line: finetune, evaluate and predict, on a tiny model."""

import json

import numpy as np
import pytest
from cli_world import BAD, GOOD, SIZES, SMALL

import minidistil as md
from minidistil.cli import main
from minidistil.data import load_tokenizer
from minidistil.data.batches import Batching
from minidistil.model.sentence.sentence_model import Pooling, SentenceModel
from minidistil.tasks.sentence_embedding.data import SentencePairs

PAIRS = [(GOOD, GOOD, "5"), (GOOD, BAD, "0"), (BAD, BAD, "5"), (BAD, GOOD, "1")]


@pytest.fixture
def data(tmp_path):
    """STS-B's columns: with similarities, and partners alone."""
    rows = [*PAIRS, *[(f"{a} film", f"{b} plot", s) for a, b, s in PAIRS]]
    scored, bare = tmp_path / "scored.tsv", tmp_path / "bare.tsv"
    scored.write_text("sentence1\tsentence2\tscore\n" + "\n".join("\t".join(r) for r in rows))
    bare.write_text("sentence1\tsentence2\n" + "\n".join("\t".join(r[:2]) for r in rows))
    return scored, bare


def answer(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cosines_learn_the_similarities(world, data, tmp_path, capsys):
    scored, _ = data
    common = ["--task", "sentence-embedding", "--data", scored, "--label-column", "score",
              "--similarity-max", 5]  # fmt: skip
    before = answer(capsys, "evaluate", "--model", world.teacher, *common)
    out = tmp_path / "out"
    found = answer(capsys, "finetune", "--model", world.teacher, *common, "--eval-data", scored,
                   "--steps", 30, "--lr", "3e-3", "--out", out, *SMALL)  # fmt: skip
    assert found["evaluation"]["mse"] < before["mse"] and (out / "modules.json").exists()
    assert found["evaluation"]["loss"] == pytest.approx(found["evaluation"]["mse"], rel=1e-4)
    after = answer(capsys, "evaluate", "--model", out, *common)
    assert after["mse"] == pytest.approx(found["evaluation"]["mse"], rel=1e-3)


def test_partners_alone(world, data, tmp_path, capsys):
    found = answer(capsys, "finetune", "--task", "sentence-embedding", "--model", world.teacher,
                   "--data", data[1], "--eval-data", data[1], "--steps", 2, "--out",
                   tmp_path / "out", *SMALL)["evaluation"]  # fmt: skip
    assert 0 <= found["accuracy"] <= 1 and "spearman" not in found


def test_how_well_partners_are_found_is_no_matter_of_batches(world, data, capsys):
    common = ["evaluate", "--task", "sentence-embedding", "--model", world.teacher, "--data",
              data[1], "--backend", "numpy", "--batch-tokens"]  # fmt: skip
    small, large = (answer(capsys, *common, tokens) for tokens in (64, 4096))
    assert small["loss"] < large["loss"]  # of a batch, where fewer texts are the choice
    for name in ("accuracy", "mrr"):
        assert small[name] == pytest.approx(large[name])


def test_a_folder_of_vectors_is_for_vectors(world, data, tmp_path, capsys):
    """--pooling cls is kept beside the model, and no later command needs to be told of either."""
    out, student, small = (tmp_path / name for name in ("out", "student", "small"))
    common = ["--data", data[1], "--backend", "numpy"]
    answer(capsys, "finetune", "--task", "sentence-embedding", "--model", world.teacher,
           "--pooling", "cls", "--steps", 1, "--eval-data", data[1], "--out", out,
           *common)  # fmt: skip
    assert Pooling.read(out).mode == "cls"
    cls, mean = (
        answer(capsys, "evaluate", "--model", out, *more, *common)
        for more in ([], ["--pooling", "mean"])
    )
    assert "mrr" in cls and cls["loss"] != mean["loss"]
    (vector,) = answer(capsys, "predict", "--model", out, GOOD, "--backend", "numpy")
    whole = md.from_pretrained(out, task="feature-extraction", backend="numpy")
    first = whole.forward(**load_tokenizer(out)([GOOD]), keep=False).last_hidden_state[0, 0]
    np.testing.assert_allclose(vector, first / np.linalg.norm(first), rtol=1e-4, atol=1e-5)
    learn = ["distill", "--teacher", out, "--alpha-ce", 0, "--alpha-cos", 0, "--alpha-mse", 1,
             "--layers", 0, "--steps", 1, "--eval-data", data[1], *common]  # fmt: skip
    answer(capsys, *learn, "--out", student)
    answer(capsys, "quantize", "--model", out, "--out", small, *common)
    assert Pooling.read(student).mode == Pooling.read(small).mode == "cls"
    assert main([*map(str, learn), "--pooling", "mean", "--out", str(tmp_path / "no")]) == 2
    assert "a student pools as its teacher, cls" in capsys.readouterr().err
    assert main(["evaluate", "--model", str(out), "--pooling", "max", *map(str, common)]) == 2
    assert "cls, mean, not 'max'" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["sentence-embedding", "feature-extraction"])
def test_vectors_of_several_models_are_refused(task, world, data, capsys):
    argv = ["evaluate", "--task", task, *2 * ["--model", world.teacher], "--data", str(data[1])]
    assert main(argv) == 2
    assert "live in different spaces: give one folder" in capsys.readouterr().err


@pytest.mark.parametrize("labels", ["--labels", "--no-labels"])
def test_a_student_learns_its_teachers_vectors(labels, world, data, tmp_path, capsys):
    scored, out = data[0], tmp_path / "out"
    found = answer(
        capsys, "distill", "--task", "sentence-embedding", "--teacher", world.teacher,
        "--data", scored, "--eval-data", scored, "--label-column", "score", "--similarity-max", 5,
        "--alpha-ce", 0, "--alpha-cos", 0, "--alpha-hard", 0, "--alpha-mse", 1, labels,
        "--layers", "0", "--steps", 30, "--lr", "1e-2", "--out", out, *SMALL,
    )  # fmt: skip
    teacher, student, *others = found["models"]
    assert {"pearson", "spearman", "mse"} <= set(student) and teacher["agreement"] > 0.999
    assert len(others) == (2 if labels == "--labels" else 0)
    told = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["mse"] for line in told if "mse" in line and "lr" in line]
    assert losses[-1] < losses[0] / 2 and (out / "modules.json").exists()


@pytest.mark.parametrize("labels", ["--labels", "--no-labels"])
def test_a_student_with_words_of_its_own(labels, world, data, tmp_path, capsys):
    scored, own = data[0], tmp_path / "own"
    (tmp_path / "texts.txt").write_text("\n".join(f"{GOOD} {i} {BAD}" for i in range(40)))
    assert main(["pretrain", "--data", str(tmp_path / "texts.txt"), "--steps", "1", "--held-out",
                 "4", "--out", str(own), *SIZES, "--vocab-size", "70", *SMALL]) == 0  # fmt: skip
    capsys.readouterr()
    argv = ["distill", "--task", "sentence-embedding", "--teacher", world.teacher, "--student", own,
            "--data", scored, "--eval-data", scored, "--label-column", "score",
            "--similarity-max", 5, "--alpha-ce", 0, "--alpha-cos", 0, "--alpha-hard", 0,
            "--alpha-mse", 1, labels, "--steps", 20, "--lr", "1e-2", *SMALL]  # fmt: skip
    found = answer(capsys, *argv, "--out", tmp_path / "out")
    teacher, student, *_ = found["models"]
    assert teacher["agreement"] > 0.999 and "spearman" in student
    words = [load_tokenizer(f).vocab_size for f in (own, tmp_path / "out", world.teacher)]
    assert words[0] == words[1] != words[2]
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line)["mse"] for line in lines if '"lr"' in line]
    assert told[-1] < told[0]


def test_vectors_are_not_cached(world, data, tmp_path, capsys):
    argv = ["distill", "--task", "sentence-embedding", "--teacher", world.teacher, "--data",
            str(data[1]), "--alpha-ce", "0", "--alpha-mse", "1", "--steps", "1",
            "--cache-teacher", str(tmp_path / "cache"), "--out", str(tmp_path / "o")]  # fmt: skip
    assert main(argv) == 2 and not (tmp_path / "o").exists()
    assert "--cache-teacher keeps words and logits" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_folder_says_how_long_its_texts_are(world, data, tmp_path, capsys):
    """max_seq_length of sentence_bert_config.json holds where texts are learnt and measured, too,
    and --max-length goes before it."""
    body = md.from_pretrained(world.teacher, task="sentence-embedding")
    short = tmp_path / "short"
    SentenceModel(
        body.config, body.named_by_role(), body.ops, Pooling(max_length=6)
    ).save_pretrained(short)
    load_tokenizer(world.teacher).save(short)
    common = ["--task", "sentence-embedding", "--data", data[0], "--label-column", "score"]
    tokens = [
        answer(capsys, "evaluate", "--model", folder, *common, *length)["tokens"]
        for folder, length in ((short, []), (world.teacher, ["--max-length", 6]),
                               (short, ["--max-length", 9]), (world.teacher, []))
    ]  # fmt: skip
    assert tokens[0] == tokens[1] == 16 * 6 < tokens[2] < tokens[3]
    student = ["--layers", 0, "--alpha-ce", 0, "--alpha-cos", 0, "--alpha-mse", 1]
    for name, argv in (
        ("finetune", ["--model", short]),
        ("distill", ["--teacher", short, *student]),
    ):
        out = tmp_path / name
        answer(capsys, name, *argv, *common, "--eval-data", data[0], "--steps", 2, "--out", out,
               *SMALL)  # fmt: skip
        stored = json.loads((out / "run.json").read_text())["options"]
        assert stored["max_length"] == 6
        assert json.loads((out / "sentence_bert_config.json").read_text())["max_seq_length"] == 6


def test_predict_says_its_size(world, capsys):
    argv = ["predict", "--task", "sentence-embedding", "--model", world.teacher, GOOD]
    assert main([*argv, "--backend", "numpy"]) == 0
    assert capsys.readouterr().out.startswith("a vector of 16\t")


def test_a_batch_holds_each_text_for_itself(world):
    tokenizer = load_tokenizer(world.teacher)
    pairs = SentencePairs(PAIRS, tokenizer, Batching(1000), highest=5)
    batch = pairs.collate([1, 0])
    assert batch["input_ids"].shape[:2] == (2, 2)
    np.testing.assert_allclose(batch["labels"], [0, 1])
    ids = batch["input_ids"][0, 1][batch["attention_mask"][0, 1] == 1]
    np.testing.assert_array_equal(ids, tokenizer(BAD)["input_ids"][0])


@pytest.mark.parametrize(
    ("example", "says"),
    [(("a", None, 1), "single text"), (("a", "b", "much"), "finite number")],
)
def test_bad_examples(world, example, says):
    with pytest.raises(ValueError, match=says):
        SentencePairs([example], load_tokenizer(world.teacher), Batching(100))


def test_distill_refuses(world, data, capsys, tmp_path):
    argv = ["distill", "--task", "sentence-embedding", "--teacher", world.teacher, "--data",
            str(data[1]), "--layers", "0", "--out", str(tmp_path / "out"), *SMALL]  # fmt: skip
    assert main(argv) == 2 and not (tmp_path / "out").exists()
    assert "sentence-embedding" in capsys.readouterr().err
