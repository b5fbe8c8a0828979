"""`minidistil bench`: everybody is compared before being timed. No time is asserted here."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from minidistil.cli import main
from minidistil.cli.bench import contestants, machine, timing, workloads
from minidistil.cli.bench.contestants import (
    ALONE,
    OURS,
    PEERS,
    TORCH,
    Contestants,
    TimedRun,
    missing,
)
from minidistil.cli.bench.results_table import draw, text
from minidistil.model.params import body_shapes

TINY = ("--size", "tiny", "--rounds", "3", "--seconds", "0.01")


def row_called(name):
    return next(row for row in workloads.ROWS if row.name == name)


def refused(capsys, *argv):
    assert main(["bench", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def found():
    """A report of a few rows, with every peer that is installed."""
    peers = [peer for peer in PEERS if peer not in missing(PEERS)]
    rows = ["distilbert-1x16", "bert-sentences", "distilbert-sentences-int8", "step",
            "distilbert-sentences-bfloat16", "threads-8x128", "distilbert-1x32",
            "distilbert-1x128"]  # fmt: skip
    report = machine.ask(
        "minidistil.cli.bench.timing", 1, size="tiny", backend="cpu",
        precision="highest", gemm="own", rows=rows, peers=peers,
        model=None, rounds=3, seconds=0.01, clock="wall", roofline=False,
    )  # fmt: skip
    memory = {name: {"needed": needed} for name, needed in ((OURS, 5e8), (TORCH[0], 2e9))}
    return report | {"missing": missing(PEERS), "memory": memory}


def test_everybody_agrees_and_has_figures(found):
    assert len(found["rows"]) == 8 and found["machine"]["threads"] == 1
    assert found["peak_gflops"] > 0
    for row in found["rows"]:
        assert OURS in row["contestants"], row["name"]
        for name, entry in row["contestants"].items():
            assert "error" not in entry, (row["name"], name, entry)
            if "skipped" in entry:
                continue
            assert entry["rounds"] == 3 and entry["difference"] < 0.2
            assert all(math.isfinite(entry[k]) and entry[k] > 0 for k in ("ms", "gflops", "ratio"))
        if "ms" in row["contestants"][OURS]:
            assert row["contestants"][OURS]["ratio"] == 1


def test_the_table_fits_a_terminal(found):
    lines = text(found).splitlines()
    assert max(map(len, lines)) <= 100
    heads = [line for line in lines if "GFLOP/s  peak" in line]
    assert [head.split("  ")[0] for head in heads] == [
        "DistilBERT, float32", "BERT, float32", "DistilBERT, bfloat16", "DistilBERT, int8",
        "distillation step", "all cores against one", "DistilBERT, sizes",
    ]  # fmt: skip
    assert ALONE in heads[5] and "numpy" in heads[0] and "numpy" not in heads[3]
    assert "4.00 times minidistil's" in "\n".join(lines)


@pytest.mark.parametrize("features", [[], ["avx2", "fma"], list(machine.TELLING)])
def test_any_processor_fits_a_terminal(found, features):
    """A processor whose features fill a line was 134 characters wide."""
    processor = {"processor": "Some(R) Processor @ 2.60GHz", "features": features}
    described = found["machine"] | processor
    lines = text(found | {"machine": described}).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(name in " ".join(lines[:4]) for name in features)


def test_the_picture(found, tmp_path):
    pytest.importorskip("matplotlib")
    draw(tmp_path / "bench.png", found)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_with_a_model_of_ones_own(world, capsys):
    argv = (
        "bench",
        *TINY,
        "--model",
        world.teacher,
        "--rows",
        "inference",
        "--peers",
        "numpy",
        "--clock",
        "cpu",
    )
    assert main([*argv, "--threads", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["rows"]  # the only one that is short enough for its 32 positions
    assert row["name"] == "bert-1x16" and set(row["contestants"]) == {OURS, "numpy"}
    assert report["model"] == world.teacher and report["memory"] is None
    assert "Processor time" in text(report)


def test_the_memory_of_a_step(capsys):
    assert main(["bench", *TINY, "--rows", "memory", "--peers", "numpy", "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert list(memory) == [OURS] and memory[OURS]["peak"] > memory[OURS]["arrays"] > 0


def test_what_is_not_there_is_refused(world, capsys, monkeypatch):
    assert "no row is called 'bert-9x9'" in refused(capsys, "--rows", "bert-9x9")
    assert "no peer is called 'jax'" in refused(capsys, "--peers", "jax")
    assert "--clock cpu needs --threads 1" in refused(capsys, "--clock", "cpu")
    assert "--rounds must be above 0, not -1" in refused(capsys, "--rounds", -1)
    line = refused(capsys, "--model", world.teacher, "--rows", "step", "--threads", 1)
    assert "no such row fits" in line
    monkeypatch.setattr("minidistil.cli.bench.find_spec", lambda name: None)
    assert "needs matplotlib" in refused(capsys, "--plot", "bench.png")


def test_a_peer_that_is_missing_is_said_in_a_line(found, monkeypatch):
    monkeypatch.setattr(contestants, "find_spec", lambda name: name == "torch" or None)
    absent = missing(["torch-sdpa", "onnxruntime"])
    assert absent == {"torch-sdpa": "transformers", "onnxruntime": "onnxruntime"}
    lines = [line for line in text(found | {"missing": absent}).splitlines() if "Not inst" in line]
    assert lines == [
        "Not installed: torch-sdpa (transformers), onnxruntime (onnxruntime); "
        "pip install 'minidistil[bench]'"
    ]


@pytest.mark.parametrize(("dtype", "within"), [("float32", 9e-6), ("int8", 0.19)])
def test_a_peer_that_disagrees_is_not_timed(found, monkeypatch, capsys, dtype, within):
    want = np.random.default_rng(0).normal(size=(50, 8))
    right, wrong = want * (1 + within), want * (1 + within * 1.2)
    runs = {name: TimedRun(lambda answer=answer: answer, None)
            for name, answer in ((OURS, want), ("right", right), ("wrong", wrong))}  # fmt: skip
    runs["absent"] = "no such thing"
    them = SimpleNamespace(reference=lambda row: want, names=lambda row, peers: list(runs),
                           make=lambda name, row: runs[name],
                           watched=lambda name: nullcontext(lambda: "AMX"))  # fmt: skip
    row = replace(row_called("distilbert-8x128"), dtype=dtype)
    timed, entries = timing._agreed(row, them, [])
    assert set(timed) == {OURS, "right"} and entries["absent"] == {"skipped": "no such thing"}
    assert "differs from float32" in entries["wrong"]["error"]
    report = json.loads(json.dumps(found))
    report["rows"][0]["contestants"]["numpy"] = entries["wrong"]
    monkeypatch.setattr(machine, "ask", lambda module, threads, **options: report)
    assert main(["bench", "--rows", "inference"]) == 1
    out = capsys.readouterr().out
    assert "  differs" in out and "error: distilbert-1x16: numpy differs from float32" in out


def test_turns_alternate(monkeypatch):
    monkeypatch.setattr(timing, "TURN", 0.0)
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    times = timing.interleave(runs, 4, 100)
    assert "".join(order) == "abc" * 4
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 4)
    assert len(timing.interleave(runs, 9, 0)["a"]) == 3


def test_a_ratio_is_taken_within_a_round():
    ours, theirs = [1.0, 2.0, 4.0], [2.0, 6.0, 8.0]
    figures = timing._figures(theirs, ours, 12e9, 4e9)
    assert figures["ratio"] == 2 and figures["ratio_spread"] == 0.25 and figures["ms"] == 6000
    assert figures["gflops"] == 2 and figures["of_peak"] == 0.5


def test_the_even_start():
    environment = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1", "HOME": "/",
                   "OPENBLAS_NUM_THREADS": "64"}  # fmt: skip
    assert machine.even(environment, 2) == {"HOME": "/", "OPENBLAS_NUM_THREADS": "2"}


@pytest.mark.parametrize("name", ["distilbert-8x128", "bert-sentences"])
def test_operations_are_two_for_each_weight_and_token(name):
    row, configs = row_called(name), workloads.configs_of("base")
    a = configs[row.model].architecture
    weights = sum(math.prod(shape) for name, shape in body_shapes(a).items()
                  if name.startswith("layer") and len(shape) == 2)  # fmt: skip
    square = sum(T * T for T in row.lengths) * a.C * a.L  # scores, and again the context
    want = 2 * weights * sum(row.lengths) + 4 * square
    assert workloads.operations(row, configs) == want


def test_no_two_rows_are_the_same():
    assert len({row.name for row in workloads.ROWS}) == len(workloads.ROWS)
    assert sum(workloads.SENTENCES) == 793 and len(workloads.SENTENCES) == 32


def test_a_step_is_compared_without_dropout_and_timed_with_it():
    """Dropout on: another loss. Off: the second step's loss shows the first one's update."""
    with Contestants("tiny", None, 2, "cpu") as them:
        step = them.make(OURS, row_called("step"))
        first, _, second, _ = step.answer()
        again = them.make(OURS, row_called("step"))
        assert again.answer()[0] == first != second
        assert them.make(OURS, row_called("step")).timed()[0] not in (first, second)
