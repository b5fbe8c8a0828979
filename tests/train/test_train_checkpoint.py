"""Checkpoints and the run folder: whole or absent, whatever happens in between."""

import errno
import json
import os
import resource

import numpy as np
import pytest

from minidistil.io import files
from minidistil.train import training_state
from minidistil.train.run_folder import Run

ARRAYS = {"param/a": np.arange(6, dtype=np.float32).reshape(2, 3), "m/a": np.ones((2, 3))}


def names(folder):
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


def test_the_last_two_are_kept_and_the_newest_is_found(tmp_path):
    assert training_state.latest(tmp_path) is None
    for step in (5, 10, 99_999_999, 100_000_000):
        training_state.save(tmp_path, step, ARRAYS, {"tokens": step})
    assert names(tmp_path) == ["step-100000000", "step-99999999"]
    arrays, state = training_state.load(training_state.latest(tmp_path))
    assert state["step"] == state["tokens"] == 100_000_000
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype


def test_saving_a_step_again_replaces_it(tmp_path):
    for tokens in (1, 2):
        training_state.save(tmp_path, 5, ARRAYS, {"tokens": tokens})
    assert training_state.load(training_state.latest(tmp_path))[1]["tokens"] == 2
    assert names(tmp_path) == ["step-00000005"]


@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_a_crash_before_the_rename_leaves_the_one_before(tmp_path, monkeypatch, moment):
    training_state.save(tmp_path, 5, ARRAYS, {})

    def crash(*args):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, crash)
        patch.setattr(files, "remove", lambda path: None)  # a killed process tidies nothing up
        with pytest.raises(SystemExit):
            training_state.save(tmp_path, 10, ARRAYS, {})
    assert names(tmp_path) == [".writing-step-00000010", "step-00000005"]
    assert training_state.latest(tmp_path).name == "step-00000005"
    assert names(tmp_path) == ["step-00000005"]
    training_state.save(tmp_path, 10, ARRAYS, {})
    assert training_state.latest(tmp_path).name == "step-00000010"


def test_a_spoilt_checkpoint_gives_way_to_the_one_before(tmp_path):
    for step in (5, 10):
        training_state.save(tmp_path, step, ARRAYS, {})
    arrays = tmp_path / "checkpoints" / "step-00000010" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-4])
    assert training_state.latest(tmp_path).name == "step-00000005"
    state = tmp_path / "checkpoints" / "step-00000005" / "state.json"
    state.write_text("{")
    assert training_state.latest(tmp_path) is None


def test_damaged_arrays_are_named(tmp_path):
    training_state.save(tmp_path, 5, ARRAYS, {})
    path = training_state.latest(tmp_path)
    arrays = path / "arrays.safetensors"
    arrays.write_bytes(b"\xff" * arrays.stat().st_size)
    with pytest.raises(ValueError, match=r"is damaged .*delete it to resume from the one before"):
        training_state.load(path)


def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(tmp_path):
    training_state.save(tmp_path, 5, ARRAYS, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*step-00000010: .*free some") as caught:
            training_state.save(tmp_path, 10, {"big": np.zeros((1 << 18), np.float32)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["step-00000005"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*run\.json: Not a directory; free some"):
        Run(tmp_path / "file" / "run").start({"steps": 1})
    with pytest.raises(ValueError, match="is a file; a run needs a folder"):
        Run(tmp_path / "file")


def test_the_kind_of_error_is_kept(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"cannot write .*a\.json: Permission denied;"):
        files.write_json(tmp_path / "a.json", {})
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_run_or_a_model_is_refused(tmp_path):
    for name in ("run.json", "config.json", "model.safetensors", "checkpoints"):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_text("{}")
        with pytest.raises(ValueError, match=f"already holds {name}; give --resume .*or choose"):
            Run(folder)
    with pytest.raises(ValueError, match="holds no run to resume; start one without --resume"):
        Run(tmp_path, resume=True)
    with pytest.raises(ValueError, match="holds no run to resume"):
        Run(tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_a_resumed_run_gets_back_what_it_began_with(tmp_path):
    run = Run(tmp_path / "a b", command="minidistil distill", options={"seed": 3})
    assert not run.folder.exists()
    run.start({"steps": 7})
    again = Run(tmp_path / "a b", resume=True)
    assert (again.options, again.plan) == ({"seed": 3}, {"steps": 7})
    assert again.how_to_resume() == (
        f"resume with: minidistil distill --out '{tmp_path / 'a b'}' --resume"
    )


def test_metrics_are_cut_back_to_a_step_and_a_torn_line_is_dropped(tmp_path):
    run = Run(tmp_path)
    run.start({})
    for step in (0, 5, 10):
        run.log({"step": step, "loss": np.float32(0.1), "bad": [float("nan")]})
    path = tmp_path / "metrics.jsonl"
    text = path.read_text()
    assert json.loads(text.splitlines()[1]) == {"step": 5, "loss": float(np.float32(0.1)),
                                                "bad": [None]}  # fmt: skip
    path.write_text(text[:-9])
    run.rewind(10)
    assert path.read_text() == "".join(text.splitlines(keepends=True)[:2])
    run.rewind(0)
    assert path.read_text() == text.splitlines(keepends=True)[0]


def test_a_discarded_run_takes_back_only_its_own_files(tmp_path):
    run = Run(tmp_path / "run")
    run.start({})
    run.discard()
    assert not (tmp_path / "run").exists()
    run.start({})
    (tmp_path / "run" / "notes").write_text("mine")
    run.discard()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes"]
