"""One writer for each `--out`: a second start is refused, and a killed one leaves no lock."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_world import SIZES, SMALL
from train_toy import ToyData, ToyObjective, config

from minidistil.cli import main, run_options
from minidistil.io.lock import InUseError, exclusive_lock
from minidistil.train import Run
from minidistil.train.loop import run_loop
from minidistil.train.run_folder import LOCK

HOLD = """
import sys, time
from minidistil.io.lock import exclusive_lock
with exclusive_lock(sys.argv[1], "the run"):
    print("held", flush=True)
    time.sleep(60)
"""


def pretrain(world, *more):
    argv = ["pretrain", "--data", world.text, *SIZES, *SMALL, "--steps", "1", *more]
    return main([str(x) for x in argv])


def the_error(capsys):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning:")]
    return line


@pytest.mark.parametrize("resume", [False, True])
def test_two_starts_at_once(resume, world, tmp_path, capsys):
    """Was: two starts with one --out wrote into each other's folder, and the one that failed first
    deleted it with all that the other had written.
    Right: the second ends with 2 and one line, and the first one's files stay.
    """
    out = tmp_path / "out"
    if resume:
        assert pretrain(world, "--out", out) == 0
    capsys.readouterr()
    with Run(out, resume=resume).held():
        (out / "data").mkdir(exist_ok=True)
        (out / "data" / "being-written").write_text("x")
        argv = ["--resume"] if resume else []
        assert main(["pretrain", "--out", str(out), "--data", world.text, *argv]) == 2
        assert f"{out} is in use by another process; wait for its end" in the_error(capsys)
        assert (out / "data" / "being-written").exists()
    assert not (out / LOCK).exists()


def test_a_killed_process(tmp_path):
    """Right: the system takes a lock back from a process that is killed; its file locks nothing."""
    (tmp_path / "run").mkdir()
    place = tmp_path / "run" / LOCK
    with subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InUseError), Run(tmp_path / "run").held():
            raise AssertionError("two at once")
        process.send_signal(signal.SIGKILL)
    assert place.exists()
    with Run(tmp_path / "run").held():
        assert place.exists()
    assert not place.exists()


def test_a_run_killed_before_its_first_step(world, tmp_path):
    """Was: a run killed while it tokenised could be started again, over what it had left.
    Right: it still can, for the lock's file says that the folder is a run's; half a text is not
    read again.
    """
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "data" / "taught.jsonl").write_text("of another teacher")
    (out / "tokenizer.json").write_text("{")
    (out / LOCK).write_text("")
    assert pretrain(world, "--out", out) == 0
    assert [p.suffix for p in (out / "data").iterdir()] == [".corpus"]


def test_a_folder_that_another_filled_in_between(tmp_path):
    """Right: what is in the folder is looked at once more when it is locked: another process may
    have begun and ended since."""
    late = Run(tmp_path / "run")
    run_loop(ToyObjective(), ToyData(), config(steps=1), run=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"already holds run\.json"), late.held():
        raise AssertionError("over a run")
    assert (tmp_path / "run" / "run.json").exists()


def test_two_runs_in_python(tmp_path):
    """Right: `run_loop` holds its folder as the commands do, against other threads, too."""
    found = []

    def second():
        try:
            run_loop(ToyObjective(), ToyData(), config(steps=1), run=tmp_path / "run")
        except ValueError as error:
            found.append(str(error))

    with Run(tmp_path / "run").held():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "is in use by another process" in found[0]
    assert not (tmp_path / "run").exists()


def test_names_chosen_at_the_same_moment(world, tmp_path, monkeypatch):
    """Was: two starts without --out chose the same name.
    Right: the one that comes second takes the next.
    """
    monkeypatch.chdir(tmp_path)
    names = iter(["runs/pretrain", "runs/pretrain-2"])
    monkeypatch.setattr(run_options, "_free_folder", lambda command: next(names))
    with Run("runs/pretrain").held():
        assert pretrain(world) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["pretrain-2"]


def test_a_lock_that_is_deleted_by_its_holder(tmp_path, monkeypatch):
    """Right: a process that opened the lock's file just before its holder deleted it locks a file
    without a name; it looks again, and holds the new one."""
    from minidistil.io import lock

    really, others = lock.os.open, []

    def opened(path, *args):
        handle = really(path, *args)
        if not others:
            others.append(path)
            lock.os.unlink(path)
        return handle

    monkeypatch.setattr(lock.os, "open", opened)
    with exclusive_lock(tmp_path / "lock", "the run"):
        assert (tmp_path / "lock").exists()
        with pytest.raises(InUseError), exclusive_lock(tmp_path / "lock", "the run"):
            raise AssertionError("two at once")


def test_a_folder_whose_name_is_no_text(world, tmp_path):
    """Was: a run in a folder whose name is not UTF-8 ended with 2 when its report was written.
    Right: it ends as any other; the name is shown with escapes.
    """
    out = f"{tmp_path}/r\udcff"
    assert pretrain(world, "--out", out) == 0
    assert "r\\udcff" in (Path(out) / "report.html").read_text()


def test_a_failure_leaves_no_lock_and_no_folder(world, tmp_path, capsys):
    """Right: a start that fails before its first step leaves nothing, parents included."""
    out = tmp_path / "a" / "b" / "out"
    assert main(["pretrain", "--data", str(tmp_path / "no.txt"), "--out", str(out)]) == 2
    assert "no data at" in the_error(capsys)
    assert not (tmp_path / "a").exists()
