"""Checkpoints: all that a run needs to go on as if it had never stopped.

    <run>/checkpoints/step-00000100/arrays.safetensors    parameters and optimiser moments
                                    state.json            counters, size and checksum of the arrays

A checkpoint is written aside and renamed, so that a name `step-…` always stands for a complete
one; a run killed while writing leaves only a leftover, which the next look removes. The last
two are kept: should a disk spoil the newest, which the checksums tell, the one before is there.
"""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from minidistil.io import files
from minidistil.io.checksums import checksum, read_sealed, write_sealed

KEEP = 2
ARRAYS, STATE = "arrays.safetensors", "state.json"


def save(folder, step, arrays, state):
    """Write checkpoint `step` of the run in `folder`; drop all but the last two.

    arrays: name -> array. state: what JSON can hold.
    Raises OSError when the disk is full or the folder unwritable; what was there stays.
    """
    target = Path(folder) / "checkpoints" / f"step-{step:08d}"
    with files.replacing(target) as aside:
        path = aside / ARRAYS
        files.write_tensors(path, arrays)
        about = {"step": step, "bytes": path.stat().st_size, "arrays": checksum(path)}
        write_sealed(aside / STATE, state | about)
    for old in _steps(target.parent)[:-KEEP]:
        files.remove(old)


def latest(folder, damaged=None):
    """The newest whole checkpoint's folder, or None. Leftovers of killed runs are removed.

    damaged: a list that gets (folder, ValueError) of each newer one.
    """
    checkpoints = Path(folder) / "checkpoints"
    if not checkpoints.is_dir():
        return None
    for leftover in checkpoints.glob(f"{files.TEMPORARY}*"):
        files.remove(leftover)
    for path in reversed(_steps(checkpoints)):
        try:
            _check(path)
        except ValueError as error:
            if damaged is not None:
                damaged.append((path, error))
        else:
            return path
    return None


def load(path):
    """A checkpoint's folder  ->  arrays, state. Raises ValueError for one that is damaged."""
    try:
        arrays = load_file(path / ARRAYS)
    except SafetensorError as error:
        raise _damaged(path, error) from None
    return arrays, read_sealed(path / STATE)


def _steps(checkpoints):
    """The folders of checkpoints, oldest first."""
    found = (p for p in checkpoints.iterdir() if re.fullmatch(r"step-\d{8,}", p.name))
    return sorted(found, key=lambda path: int(path.name[5:]))


def _check(path):
    """Raises ValueError unless every bit of the checkpoint is as it was written."""
    try:
        state = read_sealed(path / STATE)
        size, found = (path / ARRAYS).stat().st_size, checksum(path / ARRAYS)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if size != state["bytes"]:
        raise _damaged(path, f"{ARRAYS} has {size} bytes where {state['bytes']} were written")
    if found != state["arrays"]:
        raise _damaged(path, f"{ARRAYS} holds something else than its checksum says")


def _damaged(path, reason):
    return ValueError(
        f"checkpoint {path} is damaged ({reason}); delete it to resume from the one before"
    )
