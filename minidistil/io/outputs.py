"""What an option names to be written is looked at before anything is computed."""

import os
from pathlib import Path

from minidistil.io.files import check_kind


def check_file(path, what="", ours=None):
    """Raises ValueError where a file of that name cannot be written, or must not be.

    ours: path -> whether a file that is there is `what`, and may be replaced, as an empty one may;
    another one is the user's and stays.
    """
    check_kind(path)
    path = Path(path)
    if ours and path.exists() and path.stat().st_size and not ours(path):
        raise ValueError(f"{path} is not {what} and is not overwritten; name another file")
    check_place(path)


def check_folder(path):
    """Raises ValueError where a new folder of that name cannot be made: one that is there must be
    empty."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} already holds something; name a folder that is not there")
    check_place(path)


def check_place(path):
    """Raises ValueError where nothing can be made in the folder of `path`."""
    place = Path(os.path.realpath(path)).parent
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"cannot write {path}: {there} is a file, not a folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {path}: {there} is read-only; name another folder")
