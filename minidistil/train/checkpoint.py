"""Checkpoints: all that a run needs to go on as if it had never stopped.

    <run>/checkpoints/step-00000100/arrays.safetensors    parameters and optimiser moments
                                    state.json            counters, and the size of the arrays

A checkpoint is written aside and renamed, so that a name `step-…` always stands for a complete
one; a run killed while writing leaves only a leftover, which the next look removes. The last
two are kept: should a disk spoil the newest, the one before is still there.
"""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from minidistil import files

KEEP = 2


def save(folder, step, arrays, state):
    """Write checkpoint `step` of the run in `folder`; drop all but the last two.

    arrays: name -> array. state: what JSON can hold.
    Raises OSError when the disk is full or the folder unwritable; what was there stays.
    """
    target = Path(folder) / "checkpoints" / f"step-{step:08d}"
    with files.replacing(target) as aside:
        aside.mkdir()
        try:
            save_file(arrays, aside / "arrays.safetensors")
        except SafetensorError as error:
            raise OSError(str(error)) from error
        size = (aside / "arrays.safetensors").stat().st_size
        text = files.to_json(state | {"step": step, "bytes": size})
        (aside / "state.json").write_text(text, encoding="utf-8")
    for old in _complete(target.parent)[:-KEEP]:
        files.remove(old)


def latest(folder):
    """The newest complete checkpoint's folder, or None. Leftovers of killed runs are removed."""
    checkpoints = Path(folder) / "checkpoints"
    if not checkpoints.is_dir():
        return None
    for leftover in checkpoints.glob(f"{files.ASIDE}*"):
        files.remove(leftover)
    return (_complete(checkpoints) or [None])[-1]


def load(path):
    """A checkpoint's folder  ->  arrays, state."""
    try:
        arrays = load_file(path / "arrays.safetensors")
    except SafetensorError as error:
        raise ValueError(
            f"checkpoint {path} is damaged ({error}); delete it to resume from the one before"
        ) from None
    return arrays, files.read_json(path / "state.json")


def _complete(checkpoints):
    """Oldest first."""
    steps = (p for p in checkpoints.iterdir() if re.fullmatch(r"step-\d{8,}", p.name))
    found = sorted(steps, key=lambda path: int(path.name[5:]))
    return [path for path in found if _whole(path)]


def _whole(path):
    arrays, state = path / "arrays.safetensors", path / "state.json"
    if not (arrays.is_file() and state.is_file()):
        return False
    try:
        return files.read_json(state)["bytes"] == arrays.stat().st_size
    except (ValueError, KeyError):
        return False
