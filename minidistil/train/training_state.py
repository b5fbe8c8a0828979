"""Checkpoints: everything that a run needs to continue with the same bits.

    <run>/checkpoints/step-00000100/arrays.safetensors    parameters and optimiser moments
                                    state.json            counters, size and checksum of the arrays

A checkpoint is written under a temporary name and renamed, so a folder `step-…` is always complete.
A run that is killed while writing leaves a temporary folder, which `latest` removes. The last two
checkpoints are kept: if the checksums show that the newest is damaged, the one before is used.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from minidistil.io import files
from minidistil.io.checksums import checksum, read_sealed, write_sealed

KEEP = 2
ARRAYS, STATE = "arrays.safetensors", "state.json"


def save(folder: str | Path, step: int, arrays: Mapping[str, np.ndarray], state: dict) -> None:
    """Write checkpoint `step` of the run in `folder`; drop all but the last two.

    arrays: name -> array. state: of JSON values.
    Raises OSError when the disk is full or the folder cannot be written to; older ones stay.
    """
    target = Path(folder) / "checkpoints" / f"step-{step:08d}"
    with files.replacing(target) as aside:
        path = aside / ARRAYS
        files.write_tensors(path, arrays)
        about = {"step": step, "bytes": path.stat().st_size, "arrays": checksum(path)}
        write_sealed(aside / STATE, state | about)
    for old in _steps(target.parent)[:-KEEP]:
        files.remove(old)


GROUPS = ("param", "m", "v", "best")  # parameters, AdamW's moments, the best parameters


def flat(**groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{name: array} of each of GROUPS  ->  {"group/name": array}."""
    return {
        f"{group}/{name}": np.ascontiguousarray(groups[group][name])
        for group in GROUPS
        for name in groups[group]
    }


def grouped(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `flat`."""
    groups = {group: {} for group in GROUPS}
    for key, array in arrays.items():
        group, name = key.split("/", 1)
        groups[group][name] = array
    return groups


def latest(folder: str | Path, damaged: list | None = None) -> Path | None:
    """The newest complete checkpoint's folder, or None. Leftovers of killed runs are removed.

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


def load(path: Path) -> tuple[dict, dict]:
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
    """Raises ValueError unless size and checksums are those that were written."""
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
