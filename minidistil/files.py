"""Files that are either whole or absent: written aside, flushed to disk, then renamed."""

import json
import math
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

ASIDE = ".writing-"  # a name that starts so is the leftover of a killed run


class MissingFileError(FileNotFoundError, ValueError):
    """A file or folder that is not there: for callers an OSError and bad input at once."""


def sync(path):
    """Make the disk hold what was written to a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path):
    """`with replacing(path) as aside:` write aside, a file or a folder; it then becomes path.

    After an error nothing is left beside path, and path is what it was. What the disk refuses
    is raised as an OSError of one line that names path.
    """
    path = Path(path)
    aside = path.with_name(f"{ASIDE}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(aside)
        yield aside
        for file in sorted(aside.iterdir()) if aside.is_dir() else []:
            sync(file)
        sync(aside)
        if path.is_dir():
            remove(path)
        os.replace(aside, path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            remove(aside)
        raise unwritable(path, error) from error
    except BaseException:
        with suppress(OSError):
            remove(aside)
        raise


def write_together(folder, contents):
    """contents: {name: bytes}. The folder then holds all of them, or is left as it was."""
    asides = {folder / f"{ASIDE}{name}": name for name in contents}
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for aside, name in asides.items():
            aside.write_bytes(contents[name])
            sync(aside)
        for aside, name in asides.items():
            os.replace(aside, folder / name)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        with suppress(OSError):
            for aside in asides:
                aside.unlink(missing_ok=True)
            if fresh:
                folder.rmdir()  # refused, and rightly so, when the files are there


def unwritable(path, error):
    """The same error in one line that says what to do."""
    reason = error.strerror or error
    return type(error)(f"cannot write {path}: {reason}; free some space or choose another folder")


def remove(path):
    """Delete a file or a folder, if there. A folder is renamed first and so never half there."""
    if path.is_dir():
        if not path.name.startswith(ASIDE):
            path = path.rename(path.with_name(f"{ASIDE}removed-{path.name}"))
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path, value):
    """One JSON document, indented, whole or absent."""
    with replacing(path) as aside:
        aside.write_text(to_json(value), encoding="utf-8")


def to_json(value):
    """Indented JSON; see `jsonable`."""
    return json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n"


def jsonable(value):
    """What JSON can hold: NumPy's numbers become Python's; NaN and infinity become null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {key: jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path):
    """Raises ValueError naming the file when it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); it was not written by a run") from None


LARGEST_JSON = 2**26  # bytes of a settings file


def read_settings(path, kind=dict):
    """The JSON object (or list) in a settings file of a model's folder.

    Raises MissingFileError or ValueError naming the file: no regular file, larger than
    LARGEST_JSON, no UTF-8, no JSON, or JSON of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} is missing")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise ValueError(f"{path} has {size} bytes; a settings file has at most {LARGEST_JSON}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # an error of decoding is a ValueError
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, kind):
        name = "object" if kind is dict else kind.__name__
        raise ValueError(f"{path} must hold one JSON {name}, not {type(value).__name__}")
    return value
