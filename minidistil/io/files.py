"""Atomic writes: a file is written under a temporary name, flushed to disk, then renamed.

A killed process therefore leaves a whole file or none. The temporary name belongs to one writer
(see `lock`) and is in the same folder, because a rename is atomic only within a file system. A
symbolic link is kept; the file that it points to is replaced.
"""

import errno
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np

from minidistil.io import limits
from minidistil.io.lock import WINDOWS, exclusive_lock
from minidistil.io.tensor_header import sort_metadata

TEMPORARY = ".writing-"  # prefix of temporary names; a file that keeps one was left by a kill
LOCK = f"{TEMPORARY}lock-"
LONG = 100  # bytes of the longest name that gets a prefix; some file systems allow 143
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
NO_ENTRY = {errno.EACCES, errno.EPERM}  # Windows cannot open a folder
RETRY_DELAYS = (0.01, 0.03, 0.1, 0.3, 1.0)  # seconds between attempts on Windows


class MissingFileError(FileNotFoundError, ValueError):
    """A file or folder does not exist. Both an OSError and a ValueError, so that callers can treat
    it as either."""


# ------------------------------------------------------- one file, several, a folder


@contextmanager
def writing(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """`with writing(path) as file:` the file becomes `path` at the end of the block.

    mode: "wb", or "w" for UTF-8 text with \\n at its line ends. After an error path is unchanged
    and no temporary file is left. Raises a one-line OSError that names path where the disk fails,
    and ValueError where path is a folder, a device or a pipe.
    """
    check_kind(path)
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    with errors_naming(path), _temporary(path) as (aside, place):
        with open(aside, mode, **text) as file:
            yield file
        _commit({aside: place})


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """`with replacing(path) as aside:` the block makes the folder aside, which then becomes path.

    An existing folder is replaced as a whole. Errors are those of `writing`.
    """
    with errors_naming(path), _temporary(path) as (aside, place):
        yield aside
        _commit({aside: place})


def write_together(folder: str | Path, contents: Mapping[str, bytes]) -> None:
    """Write several files, {name: bytes}, all or none of them.

    They are renamed in their order once all are on disk. The last one should be the file that makes
    the others usable, such as config.json.
    """
    folder = Path(folder)
    for name in contents:
        check_kind(folder / name)
    with errors_naming(folder), ExitStack() as stack:
        asides = {}
        for name, data in contents.items():
            aside, place = stack.enter_context(_temporary(folder / name))
            aside.write_bytes(data)
            asides[aside] = place
        _commit(asides)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file of these bytes atomically."""
    with writing(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


def append(path: str | Path, text: str) -> None:
    """Append text to a file in place. A killed process may leave the text incomplete."""
    with errors_naming(path), open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def copy(source: str | Path, path: str | Path) -> None:
    """Copy the bytes of a file atomically."""
    with writing(path) as file, open(source, "rb") as given:
        shutil.copyfileobj(given, file)


def remove(path: str | Path) -> None:
    """Delete a file or a folder if it exists. A folder is renamed first, so that it disappears at
    once."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        if not path.name.startswith(TEMPORARY):
            path = _retry(path.rename, _named(f"{TEMPORARY}removed-", path))
        shutil.rmtree(path)
    else:
        _retry(path.unlink, missing_ok=True)


# ------------------------------------------------------- kinds of contents


def write_json(path: str | Path, value: Any) -> None:
    """Write an indented JSON document atomically."""
    write_text(path, to_json(value))


def write_tensors(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write {name: array} as a safetensors file, atomically; metadata: texts of its header."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with errors_naming(path), _temporary(path) as (aside, place):
        try:
            save_file(arrays, aside, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        if metadata:
            with open(aside, "r+b") as file:
                sort_metadata(file)
        _commit({aside: place})


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Write an .npz file, which has a checksum for each array, atomically."""
    with writing(path) as file:
        np.savez(file, **arrays)


def to_json(value: Any) -> str:
    """Indented JSON; see `jsonable`."""
    return json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """Convert a value to one that JSON can hold: NumPy's numbers become Python's; NaN and infinity
    become null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {key: jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | Path) -> Any:
    """The value of a JSON file of a run. Raises ValueError, naming the file, where it is not
    JSON."""
    try:
        return limits.read_json(path, limits.SETTINGS, "a file of a run")
    except ValueError as error:
        raise ValueError(f"{error}; it was not written by a run") from None


def read_settings(path: str | Path, kind: type = dict) -> Any:
    """The JSON object (kind=list: list) in a settings file of a model's folder.

    Raises MissingFileError, or a ValueError that names the file: not a regular file, larger than a
    bound of `limits`, not UTF-8, not JSON, or JSON of another kind.
    """
    if not Path(path).exists():
        raise MissingFileError(f"{path} is missing")
    value = limits.read_json(path, limits.SETTINGS, "a settings file")
    if not isinstance(value, kind):
        name = "object" if kind is dict else kind.__name__
        raise ValueError(f"{path} must hold one JSON {name}, not {type(value).__name__}")
    return value


def check_kind(path: str | Path) -> None:
    """Raise ValueError where path exists and is not a regular file, and for an empty path."""
    if not str(path) or path == Path():
        raise ValueError("the name of a file to write is empty; give one")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a device or a pipe; name a file")


# ------------------------------------------------------- implementation


@contextmanager
def _temporary(path):
    """(aside, place): `path` without symbolic links, and a temporary name in the same folder,
    locked for one writer.

    The end of the block removes aside and the folders that were created and are still empty.
    """
    place = Path(os.path.realpath(path))
    aside = _named(TEMPORARY, place)
    with folder_made(place.parent), exclusive_lock(_named(LOCK, place), path):
        try:
            remove(aside)
            yield aside, place
        finally:
            with suppress(OSError):
                remove(aside)


@contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Create the folder and its parents; those created here and empty at the end of the block are
    removed."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        remove_empty(*made)


def remove_empty(*folders: Path) -> None:
    """Delete those of the folders that exist and are empty. Inner folders come first."""
    for folder in folders:
        with suppress(OSError):  # not empty, or missing
            folder.rmdir()


def _named(prefix, path):
    """The path with a prefix before its name; a long name is replaced by its digest."""
    name = os.fsencode(path.name)
    short = path.name if len(name) <= LONG else blake2b(name, digest_size=16).hexdigest()
    return path.with_name(prefix + short)


def _commit(asides):
    """{aside: place}: flush all files to disk, then rename each."""
    for aside in asides:
        sync(aside)
    for aside, place in asides.items():
        _rename(aside, place)
    for folder in dict.fromkeys(place.parent for place in asides.values()):
        sync(folder)


def _rename(aside, place):
    """Rename aside to place. If replacing a folder fails, its former contents are restored."""
    if not (place.is_dir() and aside.is_dir()):
        if place.is_file() and aside.is_file():
            shutil.copymode(place, aside)
        _retry(os.replace, aside, place)
        return
    old = _named(f"{TEMPORARY}removed-", place)
    remove(old)
    _retry(place.rename, old)
    try:
        _retry(os.replace, aside, place)
    except BaseException:
        _retry(old.rename, place)
        raise
    remove(old)


def _retry(change, *args, **options):
    """change(…), repeated on Windows, where a file that another process reads cannot be changed."""
    for seconds in RETRY_DELAYS if WINDOWS else ():
        try:
            return change(*args, **options)
        except PermissionError:
            time.sleep(seconds)
    return change(*args, **options)


def sync(path: str | Path) -> None:
    """Flush a file to disk, or a folder; a temporary folder with all its files.

    A file system that does not support this is not an error.
    """
    path = Path(path)
    folder = path.is_dir()
    if folder and path.name.startswith(TEMPORARY):
        for inner in sorted(path.iterdir()):
            sync(inner)
    try:
        # Windows flushes only a handle that is open for writing
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except OSError as error:
        if folder and error.errno in NO_ENTRY:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def errors_naming(path: str | Path) -> Iterator[None]:
    """Replace an OSError about `path` by one that names it and gives a remedy. An error about
    another file, such as one that is read in the block, is unchanged."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ValueError) or not _concerns(error, path):
            raise
        raise unwritable(path, error) from error


def _concerns(error, path):
    """Whether an OSError is about path, one of its parents, or a temporary file."""
    if error.filename is None:
        return True
    place, at = Path(os.path.realpath(path)), Path(os.fsdecode(error.filename))
    around = (place, *place.parents)
    return at in around or any(f.name.startswith(TEMPORARY) for f in (at, *at.parents))


def unwritable(path: str | Path, error: OSError) -> OSError:
    """An error of the same type whose one line gives path, reason and remedy."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    reason = cause.strerror or cause
    return kind(f"cannot write {path}: {reason}; free some space or choose another folder")
