"""Files of the user's that an option happens to name: refused, never overwritten.

Each command that writes a file or a folder is given one that is there and is not its own.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from minidistil.cli import main
from minidistil.cli.bench import results_table
from minidistil.cli.html_page import PAGE
from minidistil.io import files

ITEMS = ["the film was great", "what a dull plot", "we loved the actors"]


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "items.txt"
    path.write_text("\n".join(ITEMS))
    return path


def refused(capsys, *argv):
    """The one line on stderr of a command that ends with 2."""
    capsys.readouterr()
    assert main([str(x) for x in argv]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning:")]
    assert line.startswith("error: ") and len(line) < 500
    return line


def search(world, items, index):
    return ["search", "--items", items, "--model", world.teacher, "--backend", "numpy",
            "--index", index, "dull"]  # fmt: skip


def test_an_index_over_a_models_weights(world, items, tmp_path, capsys):
    """Was: `search --index model.safetensors` replaced the weights by an index.
    Right: what is not an index is refused by name and stays as it is.
    """
    weights = tmp_path / "model.safetensors"
    shutil.copy(Path(world.teacher) / "model.safetensors", weights)
    before = weights.read_bytes()
    found = refused(capsys, *search(world, items, weights))
    assert f"{weights} is not an index of search and is not overwritten; name another" in found
    assert weights.read_bytes() == before


def test_an_index_over_other_arrays(world, items, tmp_path, capsys):
    """Was: any .npz file without the right key was overwritten.
    Right: an .npz file of other arrays is not an index.
    """
    np.savez(tmp_path / "mine.npz", images=np.zeros(3))
    assert "is not an index" in refused(capsys, *search(world, items, tmp_path / "mine.npz"))


def test_a_damaged_index(world, items, tmp_path, capsys):
    """Was: a damaged index was computed again without a word, or its wrong vectors were used.
    Right: one line names it; deleting it is up to the user. An empty file holds nothing to lose.
    """
    index = tmp_path / "index.npz"
    index.write_bytes(b"")
    assert main([str(x) for x in search(world, items, index)]) == 0
    whole = index.read_bytes()
    for place in (60, len(whole) // 2, len(whole) - 30):
        index.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "is a damaged index" in refused(capsys, *search(world, items, index))
    index.write_bytes(whole[:-100])
    assert "delete it, and the vectors are computed again" in refused(
        capsys, *search(world, items, index)
    )


@pytest.mark.parametrize("command", ["trace", "search", "augment"])
def test_a_folder_where_a_file_belongs(command, world, items, tmp_path, capsys):
    """Was: `trace --out FOLDER` deleted the folder with all that was in it, then wrote a file.
    Right: a folder is refused by name, and stays.
    """
    folder = tmp_path / "mine.jsonl"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    argv = {
        "trace": ["trace", world.teacher, "--out", folder],
        "search": search(world, items, folder),
        "augment": ["augment", "--model", world.teacher, "--data", world.labelled,
                    "--out", folder],
    }[command]  # fmt: skip
    assert "mine.jsonl" in refused(capsys, *argv)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_trace_over_weights(world, tmp_path, capsys):
    """Was: `trace --out model.safetensors` replaced a model's weights by a trace.
    Right: only a trace is replaced by a trace.
    """
    model = Path(shutil.copytree(world.teacher, tmp_path / "model"))
    before = (model / "model.safetensors").read_bytes()
    found = refused(capsys, "trace", model, "--out", model / "model.safetensors")
    assert "is not a trace and is not overwritten" in found
    assert (model / "model.safetensors").read_bytes() == before
    for _ in range(2):  # over itself, it is
        assert main(["trace", str(model), "--out", str(tmp_path / "t.safetensors")]) == 0


def test_a_plot_over_a_photograph(tmp_path, capsys):
    """Was: `bench --plot FILE` replaced any file, after minutes of measuring.
    Right: only a picture that bench drew is replaced, and that is known before the first row.
    """
    figure = pytest.importorskip("matplotlib.figure").Figure()
    for name, metadata in (("photo.png", None), ("bench.png", results_table.DRAWN)):
        figure.savefig(tmp_path / name, metadata=metadata)
    found = refused(capsys, "bench", "--quick", "--plot", tmp_path / "photo.png")
    assert "photo.png is not a picture of bench and is not overwritten" in found
    assert results_table.is_drawn(tmp_path / "bench.png")


def test_a_check_over_a_runs_report(world, capsys):
    """Was: `check --out RUN` replaced the report.json that says how the run ended.
    Right: a report of something else is refused before anything is compared.
    """
    before = (Path(world.teacher) / "report.json").read_bytes()
    found = refused(capsys, "check", "--model", world.teacher, "--out", world.teacher)
    assert "report.html is not a report of check and is not overwritten" in found
    assert (Path(world.teacher) / "report.json").read_bytes() == before


def test_a_page_that_is_not_ours(world, tmp_path, capsys):
    """Was: `report RUN` replaced a report.html that the user had written.
    Right: only a page of this package is replaced.
    """
    run = Path(shutil.copytree(world.teacher, tmp_path / "run"))
    (run / "report.html").write_text("<h1>my findings</h1>")
    assert "report.html is not a report of minidistil" in refused(capsys, "report", run)
    assert (run / "report.html").read_text() == "<h1>my findings</h1>"
    (run / "report.html").write_text(PAGE.template)
    assert main(["report", str(run)]) == 0


@pytest.mark.parametrize("what", ["notes.txt", "data"])
def test_a_run_in_a_folder_with_other_things(what, world, tmp_path, capsys):
    """Was: a run was written between the user's files, into a folder `data` of the user's too.
    Right: a new run needs a folder of its own; hidden files and lost+found do not count.
    """
    out = tmp_path / "mine"
    (out / what / "more").mkdir(parents=True)
    for passed in (".gitkeep", "lost+found"):
        (out / passed).mkdir()
    argv = ["pretrain", "--data", world.text, "--steps", 1, "--out", out, "--backend", "numpy"]
    assert f"already holds {what}, which no run wrote; choose another" in refused(capsys, *argv)
    assert sorted(p.name for p in out.iterdir()) == sorted([".gitkeep", "lost+found", what])


@pytest.mark.parametrize("argv", [
    ["pretrain", "--out", ""], ["finetune", "--out", ""], ["distill", "--out", ""],
    ["distill", "--cache-teacher", ""], ["quantize", "--out", ""], ["trace", "x", "--out", ""],
    ["augment", "--data", "x", "--out", ""], ["search", "--items", "x", "--index", "", "query"],
    ["bench", "--plot", ""], ["check", "--model", "weights", "--out", ""],
])  # fmt: skip
def test_an_empty_name(argv, tmp_path, capsys, monkeypatch):
    """Was: `--out ""` meant the current folder, which got a run's files or was replaced.
    Right: an option that is given an empty name says so, for every command.
    """
    monkeypatch.chdir(tmp_path)
    assert "is empty; name a " in refused(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_a_cache_in_a_folder_with_other_things(world, tmp_path, capsys):
    """Right: a teacher's cache needs a folder of its own, too; a file is none."""
    argv = ["distill", "--teacher", world.teacher, "--data", world.text, "--steps", 1,
            "--backend", "numpy", "--out", tmp_path / "out", "--cache-teacher"]  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "holds other things than a cache" in refused(capsys, *argv, tmp_path / "mine")
    assert "already holds something" in refused(capsys, *argv, tmp_path / "mine" / "notes.txt")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_devices_and_pipes(world, tmp_path, capsys):
    """Was: `trace --out /dev/null` replaced the device by a file where the user was allowed to.
    Right: what is neither a file nor a folder is refused.
    """
    os.mkfifo(tmp_path / "pipe")
    found = refused(capsys, "trace", world.teacher, "--out", tmp_path / "pipe")
    assert "is a device or a pipe; name a file" in found
    with pytest.raises(ValueError, match="is a device or a pipe"):
        files.write_json(tmp_path / "pipe", {})


def test_a_place_that_cannot_be_written(world, items, tmp_path, capsys):
    """Was: search computed every vector and trace every gradient before saying that FILE cannot be.
    Right: a name in a place that is no folder is refused before the model is read.
    """
    (tmp_path / "file").write_text(json.dumps({}))
    assert f"{tmp_path / 'file'} is a file, not a folder" in refused(
        capsys, *search(world, items, tmp_path / "file" / "index.npz")
    )
