"""Commands under mpirun; skipped where mpi4py or mpirun is missing."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

PLACES = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
MPIRUN = shutil.which("mpirun", path=PLACES)
SIZES = ("--vocab-size", "150", "--layers", "2", "--hidden", "16", "--heads", "2",
         "--intermediate", "32", "--max-length", "32", "--dropout", "0.1")  # fmt: skip
SMALL = ("--backend", "numpy", "--batch-tokens", "256", "--eval-tokens", "600",
         "--deterministic", "--log-every", "1", "--eval-every", "4")  # fmt: skip
TIMEOUT = 300


def launcher():
    """mpirun with what a root user and a machine of few cores need. Skips the test without it."""
    pytest.importorskip("mpi4py")
    if MPIRUN is None:
        pytest.skip("no mpirun: pip install 'minidistil[mpi]'")
    version = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, check=True)
    if "Open MPI" in version.stdout or "prrte" in version.stdout.lower():
        return [MPIRUN, "--allow-run-as-root", "--oversubscribe"]
    return [MPIRUN]


def minidistil(*argv):
    """The command line of a command."""
    code = "import sys; from minidistil.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, argv)]


def start(*parts):
    """mpirun of (number of ranks, command) pairs, running."""
    line = launcher()
    for number, (ranks, command) in enumerate(parts):
        line += [":"] * bool(number) + ["-n", str(ranks), *command]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(ranks, command):
    """The command on so many ranks, without mpirun on one  ->  stdout; it must succeed."""
    if ranks > 1:
        process = start((ranks, command))
        out, err = process.communicate(timeout=TIMEOUT)
        code = process.returncode
    else:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        out, err, code = done.stdout, done.stderr, done.returncode
    assert code == 0, err
    return out


def errors(text):
    """The lines of stderr that this package wrote as errors."""
    return [line for line in text.splitlines() if line.startswith("error: ")]
