"""Checks of a command's output paths, made before it computes anything."""

import os
from collections.abc import Callable
from pathlib import Path

from minidistil.io.files import check_kind


def check_file(
    path: str | Path, what: str = "", ours: Callable[[Path], bool] | None = None
) -> None:
    """Raise ValueError where a file of this name cannot or must not be written.

    ours: path -> whether an existing file is `what` and may be replaced. An empty file may always
    be replaced; without `ours` any file may.
    """
    check_kind(path)
    path = Path(path)
    if ours and path.exists() and path.stat().st_size and not ours(path):
        raise ValueError(f"{path} is not {what} and is not overwritten; name another file")
    check_place(path)


def check_folder(path: str | Path) -> None:
    """Raise ValueError where this folder cannot be made. An existing folder must be empty."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} already holds something; name a folder that does not exist")
    check_place(path)


def check_place(path: str | Path) -> None:
    """Raise ValueError where nothing can be created in the parent folder of `path`."""
    place = Path(os.path.realpath(path)).parent
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"cannot write {path}: {there} is a file, not a folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {path}: {there} is read-only; name another folder")
