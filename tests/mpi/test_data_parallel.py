"""n ranks give the numbers of one process that accumulates the same micro-batches."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_launch import SIZES, SMALL, minidistil, run
from safetensors.numpy import load_file

from minidistil.train.layer_rates import part_of

TOY = Path(__file__).parent.parent / "mpi_toy.py"


def toy(folder, ranks, **options):
    """A run of the toy model  ->  its logged losses, and its last checkpoint's arrays."""
    run(ranks, [sys.executable, str(TOY), str(folder), json.dumps(options)])
    return losses(folder), load_file(last(folder) / "arrays.safetensors")


def last(folder):
    return max((folder / "checkpoints").iterdir())


def losses(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def same_bits(mine, expected):
    assert mine.keys() == expected.keys()
    return all(np.array_equal(mine[n], expected[n]) for n in expected)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, four micro-batches a step."""
    return toy(tmp_path_factory.mktemp("alone") / "run", 1, accumulate=4)


@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 2), (4, 1)])
def test_rank_ordered_sums_have_the_bits_of_one_process(alone, ranks, accumulate, tmp_path):
    curve, arrays = toy(tmp_path / "run", ranks, accumulate=accumulate, deterministic=True)
    assert curve == alone[0] and len(curve) == 40
    assert same_bits(arrays, alone[1])


def test_all_reduced_sums_give_the_same_curve(alone, tmp_path):
    curve, arrays = toy(tmp_path / "run", 2, accumulate=2)
    assert curve[0] == alone[0][0], "the first loss is that of the same parameters"
    assert np.allclose(curve, alone[0], rtol=1e-5, atol=0)
    for name, array in arrays.items():
        assert np.allclose(array, alone[1][name], rtol=1e-3, atol=1e-5), name


def test_a_run_is_resumed_on_another_number_of_ranks(alone, tmp_path):
    """Four micro-batches a step on three ranks: one has two of them. The batch stays the same."""
    folder, options = tmp_path / "run", {"accumulate": 2, "deterministic": True}
    toy(folder, 2, **options)
    newest = last(folder)
    for name in ("arrays.safetensors", "state.json"):
        (newest / name).unlink()
    newest.rmdir()
    curve, arrays = toy(folder, 3, **options, resume=True)
    assert curve == alone[0] and same_bits(arrays, alone[1])


def logged(folder):
    """metrics.jsonl without what depends on the clock."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


@pytest.fixture(scope="module")
def teacher(text, tmp_path_factory):
    """A masked language model of one process, eight steps of two micro-batches."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    command = ("pretrain", "--data", text, *SIZES, *SMALL, "--steps", 8)
    run(1, minidistil(*command, "--out", out, "--accumulate", 2))
    return out


def test_pretraining_with_dropout_has_the_bits_of_one_process(text, teacher, tmp_path):
    command = ("pretrain", "--data", text, *SIZES, *SMALL, "--steps", 8)
    out = tmp_path / "run"
    shown = run(2, minidistil(*command, "--out", out))
    assert shown.count("model and report") == 1, "rank 0 alone prints"
    for name in ("model.safetensors", "vocab.txt", "config.json"):
        assert (out / name).read_bytes() == (teacher / name).read_bytes()
    assert logged(out) == logged(teacher), "losses and evaluations"


@pytest.mark.parametrize("overlap", ["--overlap", "--no-overlap"])
def test_frozen_parts_have_the_bits_of_one_process(text, teacher, tmp_path, overlap):
    how = ("--freeze", "embeddings,1", "--layer-decay", "0.5", overlap, "--steps", 4)
    command = ("pretrain", "--model", teacher, "--data", text, *SMALL, *how)
    run(1, minidistil(*command, "--out", tmp_path / "one", "--accumulate", 2))
    run(2, minidistil(*command, "--out", tmp_path / "two"))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert same_bits(two, one)
    before = load_file(teacher / "model.safetensors")
    assert {part_of(n) for n, x in one.items() if not np.array_equal(x, before[n])} == {0, None}


def test_distillation_with_a_cache_has_the_bits_of_one_process(text, teacher, tmp_path):
    """The cache is computed by both ranks and read by both; students without a teacher follow."""
    for ranks in (1, 2):
        here = tmp_path / str(ranks)
        command = ("distill", "--teacher", teacher, "--data", text, *SMALL, "--steps", 4)
        run(ranks, minidistil(*command, "--accumulate", 2 // ranks, "--cache-teacher",
                              here / "cache", "--out", here / "run"))  # fmt: skip
    one, two = tmp_path / "1", tmp_path / "2"
    for path in sorted(one.rglob("*")):
        if path.name in ("hidden", "checksums", "cache.json", "model.safetensors"):
            assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path
    assert logged(one / "run") == logged(two / "run")


def test_evaluation_is_shared_out_and_has_the_same_numbers(text, teacher):
    command = ("evaluate", "--model", teacher, "--data", text, "--backend", "numpy", "--json")
    one, two = (json.loads(run(ranks, minidistil(*command))) for ranks in (1, 2))
    assert one["loss"] == two["loss"] and one["accuracy"] == two["accuracy"]
