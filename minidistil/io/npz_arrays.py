"""Reader of .npz files that checks sizes before it allocates.

An .npz file is a zip archive. Each entry states its unpacked size, and the array in it states its
shape. Both are compared with the bounds of `limits` and with each other before any array is read.
Arrays of Python objects are pickles and are refused.
"""

import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from minidistil.io import limits

BROKEN = (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
          zlib.error, tokenize.TokenError)  # fmt: skip


def names_of(path: str | Path) -> list[str]:
    """The names of the arrays in an .npz file. Raises ValueError for a file that cannot be read."""
    limits.check_file(path)
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    except BROKEN as error:
        raise _unreadable(path, error) from None


def read_arrays(path: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """{name: array} for those of the names that the .npz file holds. Raises ValueError, one line,
    for a file that cannot be read."""
    limits.check_file(path)
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            there = set(archive.namelist())
            entries = {n: archive.getinfo(f"{n}.npy") for n in names if f"{n}.npy" in there}
            size = sum(entry.file_size for entry in entries.values())
            if size > limits.ARRAYS:
                raise ValueError(
                    f"its arrays take {size:,} bytes, of which at most {limits.ARRAYS:,} are "
                    f"read; split it"
                )
            return {name: _array(archive, entry) for name, entry in entries.items()}
    except BROKEN as error:
        raise _unreadable(path, error) from None


def _unreadable(path, error):
    return ValueError(f"{path} cannot be read as .npz: {limits.cut(error)}")


def _array(archive, entry):
    limits.check_growth(entry.file_size, entry.compress_size)
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds Python objects; save numbers or names")
        limits.check_array(shape, dtype.itemsize, entry.file_size - file.tell())
    with archive.open(entry) as file:
        return npy.read_array(file, allow_pickle=False)
