"""A rank that fails stops all, with one line that names it; the run can be resumed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from mpi_launch import SIZES, SMALL, errors, minidistil, run, start

TIMES = int(os.environ.get("KILLED_RANK_TIMES", "1"))  # 50 before a release


def command(text, out, *more):
    return minidistil("pretrain", "--data", text, "--out", out, *SIZES, *SMALL, *more)


def worker_of(launcher, rank):
    """The process in which a rank computes: the child of the one that the launcher started."""
    marks, parents = {b"PMI_RANK=%d" % rank, b"OMPI_COMM_WORLD_RANK=%d" % rank}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if marks & set((path / "environ").read_bytes().split(b"\0")):
                parents[int(path.name)] = parent
        except OSError:  # it has ended
            continue
    found = [pid for pid, parent in parents.items() if parent in parents and under(pid, launcher)]
    assert len(found) == 1, found
    return found[0]


def under(pid, ancestor):
    """Whether a process descends from another."""
    while pid > 1 and pid != ancestor:
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def computes(pid):
    """Whether a process exists and is no zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(found, process):
    """Wait for found() to be true."""
    end = time.monotonic() + 90
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
@pytest.mark.parametrize("time_of_test", range(TIMES))
def test_a_killed_rank_stops_all_and_the_run_resumes(text, tmp_path, time_of_test):
    out, steps = tmp_path / "run", ("--steps", 60, "--checkpoint-every", 5)
    process = start((2, command(text, out, *steps)))
    try:
        until(lambda: (out / "run.json").exists(), process)
        rank, workers = time_of_test % 2, [worker_of(process.pid, r) for r in range(2)]
        until(lambda: list(out.glob("checkpoints/step-*")), process)
        time.sleep(0.02 * (time_of_test % 5))
        killed = time.monotonic()
        os.kill(workers[rank], signal.SIGKILL)
        _, err = process.communicate(timeout=30)
        while any(map(computes, workers)):
            assert time.monotonic() - killed < 10, "a process is left"
            time.sleep(0.02)
        assert time.monotonic() - killed < 10
    finally:
        process.kill()
    assert process.returncode != 0
    assert errors(err) == [
        f"error: rank {rank} of 2 was killed by SIGKILL; all ranks stop, and --resume continues "
        f"from the last checkpoint"
    ]
    if TIMES > 1 and time_of_test % 10:
        return  # the steps to the end take their time
    run(1, minidistil("pretrain", "--out", out, "--resume"))
    expected = tmp_path / "expected"
    run(1, command(text, expected, *steps, "--accumulate", 2))
    name = "model.safetensors"
    assert (out / name).read_bytes() == (expected / name).read_bytes()


def test_a_rank_that_raises_stops_all(text, tmp_path):
    """Rank 1 alone has too few cores for its threads; rank 0 waits for it."""
    out = tmp_path / "run"
    process = start((1, command(text, out)), (1, command(text, out, "--threads", 9999)))
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30 and process.returncode != 0
    (line,) = errors(err)
    assert line.startswith("error: rank 1 of 2: ") and "threads" in line


def test_what_all_ranks_refuse_is_said_once_and_leaves_nothing(text, tmp_path):
    out = tmp_path / "run"
    process = start((3, command(tmp_path / "nothing", out)))
    _, err = process.communicate(timeout=60)
    (line,) = errors(err)
    assert line.startswith("error: rank 0 of 3: no data at ") and not out.exists()


@pytest.mark.parametrize(("option", "values"), [
    ("--steps", ("4", "5")), ("--data", ("text", "other")),
])  # fmt: skip
def test_ranks_that_differ_are_refused_at_the_start(text, tmp_path, option, values):
    other = tmp_path / "other.txt"
    other.write_text(text.read_text() + "\nmore of it " * 12)
    values = [{"text": text, "other": other}.get(value, value) for value in values]
    out = tmp_path / "run"
    commands = [command(text, out, option, value) for value in values]
    process = start(*((1, line) for line in commands))
    _, err = process.communicate(timeout=60)
    (line,) = errors(err)
    assert f"all ranks must have the same {option}: rank 0 has " in line and ", rank 1 " in line
    assert process.returncode != 0 and not out.exists()
