"""The one way to write a file: under a temporary name, flushed to disk, then renamed.

So a file is whole or absent, whenever the process is killed. The temporary name is of one writer
(`lock`), and lies beside the file: a rename is atomic within a file system only. A symbolic link
stays a link, and what it points to is replaced.
"""

import errno
import json
import math
import os
import shutil
import time
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

from minidistil.io import limits
from minidistil.io.lock import WINDOWS, alone

ASIDE = ".writing-"  # a name that starts so is the leftover of a killed process
LOCK = f"{ASIDE}lock-"
LONG = 100  # bytes of a name that may still be lengthened; some file systems have 143 at most
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
NO_ENTRY = {errno.EACCES, errno.EPERM}  # Windows opens no folder
PATIENCE = (0.01, 0.03, 0.1, 0.3, 1.0)  # seconds before Windows is asked again


class MissingFileError(FileNotFoundError, ValueError):
    """A file or folder that is not there: for callers an OSError and bad input at once."""


# ------------------------------------------------------- one file, several, a folder


@contextmanager
def writing(path, mode="wb"):
    """`with writing(path) as file:` what is written becomes `path` at the end of the block.

    mode: "wb", or "w" for UTF-8 text with \\n at its line ends. After an error nothing new is left,
    and path is what it was. What the disk refuses is raised as an OSError of one line that names
    path; a folder, a device or a pipe of that name is refused with a ValueError.
    """
    check_kind(path)
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    with explained(path), _beside(path) as (aside, place):
        with open(aside, mode, **text) as file:
            yield file
        _settle({aside: place})


@contextmanager
def replacing(path):
    """`with replacing(path) as aside:` make the folder aside; it then becomes path.

    A folder that is there is replaced, as whole as the new one. Errors are those of `writing`.
    """
    with explained(path), _beside(path) as (aside, place):
        yield aside
        _settle({aside: place})


def write_together(folder, contents):
    """contents: {name: bytes}. The folder then holds all of them, or is left as it was.

    They are renamed in their order, once all of them are on disk: name the one last without which
    the others are nothing.
    """
    folder = Path(folder)
    for name in contents:
        check_kind(folder / name)
    with explained(folder), ExitStack() as stack:
        asides = {}
        for name, data in contents.items():
            aside, place = stack.enter_context(_beside(folder / name))
            aside.write_bytes(data)
            asides[aside] = place
        _settle(asides)


def write_bytes(path, data):
    """One file of these bytes, whole or absent."""
    with writing(path) as file:
        file.write(data)


def write_text(path, text):
    """One UTF-8 file, whole or absent."""
    write_bytes(path, text.encode("utf-8"))


def append(path, text):
    """Add a line to a file in place. A process that is killed may leave it without its end."""
    with explained(path), open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def copy(source, path):
    """The same bytes in another file."""
    with writing(path) as file, open(source, "rb") as given:
        shutil.copyfileobj(given, file)


def remove(path):
    """Delete a file or a folder, if there. A folder is renamed first and so never half there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        if not path.name.startswith(ASIDE):
            path = _again(path.rename, _named(f"{ASIDE}removed-", path))
        shutil.rmtree(path)
    else:
        _again(path.unlink, missing_ok=True)


# ------------------------------------------------------- kinds of contents


def write_json(path, value):
    """One JSON document, indented, whole or absent."""
    write_text(path, to_json(value))


def write_tensors(path, arrays):
    """{name: array} as a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with explained(path), _beside(path) as (aside, place):
        try:
            save_file(arrays, aside)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        _settle({aside: place})


def write_arrays(path, **arrays):
    """An .npz file, which has a checksum for each array."""
    with writing(path) as file:
        np.savez(file, **arrays)


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
        return limits.read_json(path, limits.SETTINGS, "a file of a run")
    except ValueError as error:
        raise ValueError(f"{error}; it was not written by a run") from None


def read_settings(path, kind=dict):
    """The JSON object (or list) in a settings file of a model's folder.

    Raises MissingFileError or ValueError naming the file: no regular file, beyond a bound of
    `limits`, no UTF-8, no JSON, or JSON of another kind.
    """
    if not Path(path).exists():
        raise MissingFileError(f"{path} is missing")
    value = limits.read_json(path, limits.SETTINGS, "a settings file")
    if not isinstance(value, kind):
        name = "object" if kind is dict else kind.__name__
        raise ValueError(f"{path} must hold one JSON {name}, not {type(value).__name__}")
    return value


def check_kind(path):
    """Raises ValueError where there is something at path that is no file, or path has no name."""
    if not str(path) or path == Path():
        raise ValueError("the name of a file to write is empty; give one")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a device or a pipe; name a file")


# ------------------------------------------------------- how it is done


@contextmanager
def _beside(path):
    """(aside, place): a temporary name beside the place that `path` means, for one writer.

    After the block nothing is left of aside, and of folders made on the way that stayed empty.
    """
    place = Path(os.path.realpath(path))
    aside = _named(ASIDE, place)
    with folder_made(place.parent), alone(_named(LOCK, place), path):
        try:
            remove(aside)
            yield aside, place
        finally:
            with suppress(OSError):
                remove(aside)


@contextmanager
def folder_made(folder):
    """The folder with its parents for the time of the block; those that it makes and that are empty
    in the end are removed."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        remove_empty(*made)


def remove_empty(*folders):
    """Delete those of the folders that are there and empty, the inner ones first."""
    for folder in folders:
        with suppress(OSError):  # it is not empty, or not there
            folder.rmdir()


def _named(prefix, path):
    """A temporary name; that of a long name is made from its digest, to be no longer."""
    name = os.fsencode(path.name)
    short = path.name if len(name) <= LONG else blake2b(name, digest_size=16).hexdigest()
    return path.with_name(prefix + short)


def _settle(asides):
    """{aside: place}: all of them reach the disk, then each gets its name."""
    for aside in asides:
        sync(aside)
    for aside, place in asides.items():
        _rename(aside, place)
    for folder in dict.fromkeys(place.parent for place in asides.values()):
        sync(folder)


def _rename(aside, place):
    """aside becomes place. A folder's former contents come back if that fails."""
    if not (place.is_dir() and aside.is_dir()):
        if place.is_file() and aside.is_file():
            shutil.copymode(place, aside)
        _again(os.replace, aside, place)
        return
    old = _named(f"{ASIDE}removed-", place)
    remove(old)
    _again(place.rename, old)
    try:
        _again(os.replace, aside, place)
    except BaseException:
        _again(old.rename, place)
        raise
    remove(old)


def _again(change, *args, **options):
    """change(…), a few times on Windows, where a file that another process reads is held."""
    for seconds in PATIENCE if WINDOWS else ():
        try:
            return change(*args, **options)
        except PermissionError:
            time.sleep(seconds)
    return change(*args, **options)


def sync(path):
    """Make the disk hold what was written to a file, or a folder with all that is in it.

    A file system that cannot do that for a folder, or at all, is left to its own pace.
    """
    path = Path(path)
    folder = path.is_dir()
    if folder and path.name.startswith(ASIDE):
        for inner in sorted(path.iterdir()):
            sync(inner)
    try:
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows flushes what it may
    except OSError as error:  # write to
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
def explained(path):
    """What the disk refuses names `path`; what another file refuses, such as one that is read to
    write this one, says so itself."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ValueError) or not _concerns(error, path):
            raise
        raise unwritable(path, error) from error


def _concerns(error, path):
    if error.filename is None:
        return True
    place, at = Path(os.path.realpath(path)), Path(os.fsdecode(error.filename))
    around = (place, *place.parents)
    return at in around or any(f.name.startswith(ASIDE) for f in (at, *at.parents))


def unwritable(path, error):
    """The same error in one line that says what to do."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    reason = cause.strerror or cause
    return kind(f"cannot write {path}: {reason}; free some space or choose another folder")
