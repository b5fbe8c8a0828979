"""An error is one line of at most 499 characters, whatever it speaks of, and keeps its remedy."""

import json
import shutil
import string
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from minidistil.cli import main
from minidistil.io.console import LINE_LENGTH, one_line
from minidistil.io.limits import several
from minidistil.model.checkpoint import with_scales
from minidistil.train import AdamW, TrainConfig


def the_error(capsys, *argv):
    """The one line on stderr of a command that ends with 2."""
    capsys.readouterr()
    assert main([str(x) for x in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and len(line) <= LINE_LENGTH
    return line


@given(st.text(max_size=3000))
def test_any_message(text):
    """Right: one printable line, whatever a file name or a value in it holds."""
    line = one_line(text)
    assert len(line) <= LINE_LENGTH and "\n" not in line and (line == "" or line.isprintable())


@given(st.text(string.ascii_letters + " ", max_size=3000))
def test_beginning_and_remedy_stay(middle):
    """Was: a line of thousands of characters, with what to do at its far end.
    Right: the middle goes; how much of it is said.
    """
    line = one_line(f"error: this is wrong: {middle}; do this about it")
    assert line.startswith("error: this is wrong: ") and line.endswith("; do this about it")
    assert ("characters left out" in line) == (len(" ".join(middle.split())) > LINE_LENGTH - 42)


def test_a_remedy_that_is_long_itself():
    """Right: at least its end stays."""
    line = one_line(f"wrong{'x' * 900}; choose {', '.join(map(str, range(900)))}")
    assert line.startswith("wrongxxx") and line.endswith(", 898, 899") and len(line) == LINE_LENGTH


def test_what_no_terminal_should_get():
    """Was: a file name with an escape sequence coloured the terminal; one with a lone byte failed.
    Right: they are written as Python writes them.
    """
    assert one_line("a\x1b[31mb \udcff\n\tc\x00") == "a\\x1b[31mb \\udcff c\\x00"


@pytest.mark.parametrize(("parts", "expected"), [
    (["a", "b", "c"], "a, b, c"), ([], ""), (["x" * 9], "x" * 9),
    (["x" * 30], "x" * 19 + "…"), (["abcd"] * 34, "abcd, abcd, abcd … and 31 more"),
])  # fmt: skip
def test_a_list(parts, expected):
    """Right: as many whole names as there is room for, and how many more there are."""
    assert several(parts, room=20) == expected


@pytest.mark.parametrize("argv", [
    ["predict", "--task", "x" * 9000, "text"], ["predict", "--model", "/" + "y/" * 3000, "text"],
    ["z" * 9000], ["pretrain", "--lr", "1" * 9000], ["pretrain", "--family", "f" * 9000],
    ["predict", "--" + "o" * 9000], ["bench", "--rows", "r" * 9000], ["info", *["a" * 99] * 99],
    ["distill", "--vary", "v" * 9000], ["search", "--items", "i" * 9000, "q"],
])  # fmt: skip
def test_an_option_of_9000_letters(argv, tmp_path, capsys, monkeypatch):
    """Was: the whole value came back, in a line of as many characters.
    Right: the line is short, and nothing is left behind.
    """
    monkeypatch.chdir(tmp_path)
    the_error(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_lacks_a_hundred_tensors(world, tmp_path, capsys):
    """Was: every tensor that is missing and every one that is too much in one line of 20,000.
    Right: the first of them, and how many more.
    """
    model = Path(shutil.copytree(world.teacher, tmp_path / "model"))
    found = load_file(model / "model.safetensors")
    surplus = "bert.encoder.layer.{}.wrong.{}".format
    wrong = {surplus(n, name): x for n in range(9) for name, x in found.items()}
    save_file(wrong, model / "model.safetensors", metadata={"format": "pt"})
    assert "does not fit its config.json: " in the_error(capsys, "predict", "--model", model, "a")


def test_warnings_are_as_short(world, tmp_path, capsys):
    """Right: a warning is a line as an error is."""
    model = Path(shutil.copytree(world.teacher, tmp_path / "model"))
    found = load_file(model / "model.safetensors")
    surplus = {f"head.{n}.{'x' * 40}": np.zeros(1, np.float32) for n in range(90)}
    save_file(found | surplus, model / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert main(["predict", "--model", str(model), "--task", "fill-mask", "a [MASK]"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not use head.0." in line and line.endswith(" more") and len(line) <= LINE_LENGTH


def test_lists_in_python():
    """Right: a ValueError that lists is short where it is raised, too."""
    names = [f"{n}.{'x' * 40}" for n in range(90)]
    for refused in (
        lambda: TrainConfig.from_dict(dict.fromkeys(names)),
        lambda: AdamW({"a": np.zeros(1)}, decay=names),
        lambda: with_scales("folder", dict.fromkeys(names, SimpleNamespace(kind="I8"))),
    ):
        with pytest.raises(ValueError, match=r" … and \d+ more") as caught:
            refused()
        assert len(str(caught.value)) <= LINE_LENGTH


def test_a_line_of_predict(world, tmp_path, capsys):
    """Right: a line that `predict --lines` names is as short."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": {"x" * 999: "y" * 999}, "z" * 9000: 1}))
    argv = ["predict", "--model", world.classifier, "--lines", "--data", str(path)]
    assert main(argv) == 2
    assert all(len(line) <= LINE_LENGTH for line in capsys.readouterr().err.splitlines())
