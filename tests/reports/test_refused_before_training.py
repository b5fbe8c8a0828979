"""What can be known before the first step is refused before it, and no trained model is lost."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from training_world import (
    QUICK,
    answer,
    decoder_folder,
    image_file,
    labelled_file,
    model_folder,
    text_file,
)

import minidistil as md
from minidistil.cli import main
from minidistil.data import load_tokenizer
from minidistil.tasks.text_generation import command


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("decoder"))


def test_images_as_int8(tmp_path, capsys):
    """Was: trained, then saved as a folder that nothing read. Right: what --store offers is read
    again, in float32 for images."""
    out = tmp_path / "run"
    answer(capsys, "finetune", "--task", "image-classification", "--data",
           image_file(tmp_path / "images.npz"), "--held-out", "4", *QUICK[:-2], "--store", "int8",
           "--out", out)  # fmt: skip
    assert md.from_pretrained(str(out)).dtype == "float32"


def test_a_short_text_to_continue(tmp_path, capsys, decoder):
    """Was: "a prompt needs at least one token" after the last step, where the first held-out text
    is one token long. Right: the longest of the batch is continued."""
    found, _ = answer(
        capsys, "distill", "--teacher", decoder, "--data", text_file(tmp_path / "texts.txt"),
        "--no-packed", "--held-out", 8, "--no-baselines", "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    assert found["samples"]["of the text"]


@pytest.mark.parametrize("lengths", [(1, 1), (1, 3), (9, 12), (12, 2)])
def test_what_is_continued(decoder, lengths):
    """Was: the first row, padding included, whatever its length and the model's positions.
    Right: real tokens of the longest row, and room for one more word."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    batch = {"input_ids": np.where(mask, 5, 0), "attention_mask": mask}
    model, tokenizer = md.from_pretrained(decoder), load_tokenizer(decoder)
    found = command.samples({"student": model}, tokenizer, [batch])
    assert set(found) == ({"of the text", "student"} if max(lengths) > 1 else set())
    if found:
        words = min(8, max(lengths) - 1)
        assert found["of the text"] == tokenizer.decode(np.full(words, 5))


def test_perplexity_of_a_model_that_diverged(monkeypatch):
    """Was: OverflowError from e^loss above 709 nats, in the middle of a run. Right: infinite,
    which metrics.jsonl holds as null, and the training that follows says what happened."""
    monkeypatch.setattr(command, "measured", lambda *_: {"loss": 800.0, "accuracy": 0.0})
    monkeypatch.setattr(command, "cross_entropy", lambda model: None)
    monkeypatch.setattr(command, "argmax", lambda model: None)
    assert command.measure(None, [])["perplexity"] == np.inf


def test_a_store_may_change_on_resuming(tmp_path, capsys):
    """Was: weights above float16's largest number were refused after the last step, and the run
    could not be ended in float32. Right: --resume --store float32 ends it."""
    teacher = model_folder(tmp_path / "teacher", "text-classification")
    out, data = tmp_path / "run", labelled_file(tmp_path / "labelled.tsv")
    how = ("--model", teacher, "--data", data, "--out", out, *QUICK, "--checkpoint-every", 1)
    answer(capsys, "finetune", *how, "--store", "float16")
    answer(capsys, "finetune", "--out", out, "--resume", "--store", "float32")
    stored = load_file(out / "model.safetensors")
    assert any((x != x.astype(np.float16)).any() for x in stored.values())


@pytest.mark.parametrize("part", ["inf", "nan", "-1"])
def test_a_part_that_is_no_number(part, capsys, tmp_path):
    """Was: `--held-out inf` ended in a traceback (OverflowError).
    Right: it is refused in one line, as every number that is not finite.
    """
    out = tmp_path / "out"
    assert main(["distill", "--held-out", part, "--steps", "1", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--held-out" in line and part in line and not out.exists()
