"""Implementations in C and in JAX, compared by the values that they write into a file; correct, and
with planted mistakes, each of which is found and named."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small import CONFIG, saved

import minidistil as md
from minidistil.check.families.family import PROGRAMS
from minidistil.check.mistakes import mistakes_of
from minidistil.cli import main

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
IN_C = {  # {macro: (mistake, first array that differs)}
    "GELU_TANH": ("gelu-tanh", "L0/gelu"), "SCALE_BY_C": ("scale-wrong-dim", "L0/scores"),
    "MASK_IGNORED": ("mask-ignored", "L0/probs"), "HEADS_INTERLEAVED": ("head-order", "L0/scores"),
    "VARIANCE_UNBIASED": ("layernorm-unbiased-variance", "embedded"),
}  # fmt: skip
IN_JAX = {
    "gelu": ("gelu-tanh", "block_0/narrow"), "epsilon": ("layernorm-eps", "embedded"),
    "softmax-axis": ("softmax-axis", "block_0/weights"), "sum": ("loss-scaled", "grad_of/logits"),
    "scale": ("scale-wrong-dim", "block_0/scores"),
    "kernel": ("weight-untransposed", "block_0/out"),
    "tied": ("tied-gradient-one-sided", "parameter grad/embed/word"),
}  # fmt: skip
UNNAMED = {  # {mistake in a backward: (first array that differs, words of the evidence)}
    "norm-backward": ("grad_of/head/gelu", "the backward of the head's LayerNorm"),
    "frozen": ("parameter grad/embed/norm/bias", "no gradient arrives"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, and the inputs that `trace` writes for it."""
    home = tmp_path_factory.mktemp("languages")
    folder = saved(md.from_config(CONFIG), home / "model")
    inputs = home / "inputs.safetensors"
    assert main(["trace", str(folder), "--inputs-only", "--out", str(inputs)]) == 0
    return folder, inputs


def checked(path, world, *options):
    folder, inputs = world
    assert inputs.exists()
    report = md.check.compare_trace(path, folder, inputs=inputs)
    argv = ["check", "--model", str(folder), "--against-trace", str(path), *options]
    assert main([*argv, "--inputs", str(inputs)]) == report.code
    return report


# ------------------------------------------------------------------- C


@pytest.fixture(scope="module")
def in_c(world, tmp_path_factory):
    """A function that compiles and runs the program, with a mistake  ->  the file it writes."""
    if COMPILER is None:
        pytest.skip("there is no C compiler")

    def run(*macros):
        home = tmp_path_factory.mktemp("c")
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
        source, program = str(HERE / "distilbert.c"), str(home / "distilbert")
        planted = [f"-D{macro}" for macro in macros]
        subprocess.run([COMPILER, *flags, *planted, source, "-o", program, "-lm"], check=True)
        folder, inputs = world
        out = home / "theirs.safetensors"
        subprocess.run([program, folder / "model.safetensors", inputs, out], check=True)
        return out

    return run


def test_c_agrees(in_c, world, capsys):
    path = in_c()
    report = checked(path, world)
    assert (report.verdict, report.code) == ("agree", 0)
    assert {row.where for row in report.rows if row.kind == "forward"} == set(load_file(path))
    assert "gradients: the file holds none" in capsys.readouterr().out


@pytest.mark.parametrize("macro", IN_C)
def test_a_mistake_in_c_is_named(macro, in_c, world):
    report = checked(in_c(macro), world)
    named, where = IN_C[macro]
    assert (report.verdict, report.code, report.where) == ("differ", 1, where)
    assert [d.id for d in report.diagnosis] == [named]


def test_c_refuses_other_files(in_c, world, tmp_path):
    program = in_c().parent / "distilbert"
    for given in (["missing", "missing", "out"], [world[0] / "config.json", world[1], "out"], []):
        ran = subprocess.run([program, *given], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 2 and ran.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------- JAX


@pytest.fixture(scope="module")
def in_jax(world, tmp_path_factory):
    """A function that runs the JAX program with a mistake  ->  the file it writes."""
    pytest.importorskip("jax")
    import distilbert_jax

    folder, inputs = world

    def run(mistake=None):
        distilbert_jax.mistake = mistake
        arrays = distilbert_jax.computed(*distilbert_jax.read(folder, inputs))
        path = tmp_path_factory.mktemp("jax") / "theirs.safetensors"
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, path)
        return path

    return run


def test_jax_agrees(in_jax, world):
    path = in_jax()
    report = checked(path, world)
    assert (report.verdict, report.code) == ("agree", 0)
    written = {name for name in load_file(path) if name not in ("input_ids", "attention_mask")}
    assert {row.where for row in report.rows} >= written - {"logits"}
    compared = {row.name for row in report.rows if row.kind == "gradient"}
    folder, _ = world
    assert {f"grad.{name}" for name in md.from_pretrained(folder).params} <= compared
    assert "gradient.layer.1.scores" in compared


@pytest.mark.parametrize("mistake", IN_JAX)
def test_a_mistake_in_jax_is_named(mistake, in_jax, world):
    report = checked(in_jax(mistake), world)
    named, where = IN_JAX[mistake]
    assert (report.verdict, report.code, report.where) == ("differ", 1, where)
    assert [d.id for d in report.diagnosis] == [named]


@pytest.mark.parametrize("mistake", UNNAMED)
def test_a_wrong_backward_in_jax_is_located(mistake, in_jax, world):
    report = checked(in_jax(mistake), world)
    where, words = UNNAMED[mistake]
    assert (report.verdict, report.code, report.where) == ("differ", 1, where)
    assert words in report.evidence
    assert all(row.agrees for row in report.rows if row.kind == "forward")


def test_every_mistake_of_the_jax_file_is_tried(in_jax):
    import distilbert_jax

    assert set(distilbert_jax.MISTAKES) == {*IN_JAX, *UNNAMED}


def test_a_fix_holds_in_every_language():
    """What is PyTorch's stands in brackets, in the mistakes that a file of values may have."""
    ops = {op for program in PROGRAMS.values() for op in program.ops}
    fixes = [re.sub(r"\(.*?\)\)?", "", m.fix) for m in mistakes_of(*ops)]
    assert len(fixes) > 80
    assert not [fix for fix in fixes if re.search(r"\b(F|nn|torch|math)\.|masked_fill|unbind", fix)]
