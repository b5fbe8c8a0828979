"""Tensors in safetensors files: the header is read first, the values on demand.

    8 bytes: n | n bytes of JSON: {name: {dtype, shape, data_offsets}} | the values

The header gives the shapes, so that they can be checked before any memory is allocated. All values
become float32 except for int8, see `checkpoint`. Source: the format's description in safetensors'
README.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

from minidistil.io.files import MissingFileError
from minidistil.ops.kernels.number_formats import dequantize

LARGEST_HEADER = 2**24  # bytes; a model of 1,000 layers takes about 2**21
NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1", "I64": "<i8",
        "I32": "<i4"}  # fmt: skip


class StoredTensor(NamedTuple):
    """A tensor of a file, not read yet."""

    path: Path
    name: str
    kind: str  # safetensors' dtype: F32, I8 …
    shape: tuple
    start: int  # offset of its first byte in the file

    def read(self) -> np.ndarray:
        """The values, float32; int8 where stored as int8. Raises ValueError for a dtype that is
        not in NUMPY_TYPES."""
        if self.kind not in NUMPY_TYPES:
            raise ValueError(
                f"{self.path}: {self.name} is {self.kind}; F32, F16, BF16 and F64 can be read, I8 "
                f"with scales"
            )
        count = math.prod(self.shape)
        x = np.fromfile(self.path, NUMPY_TYPES[self.kind], count, offset=self.start)
        if self.kind == "BF16":  # the upper half of a float32; NumPy has no bfloat16
            x = (x.astype(np.uint32) << 16).view(np.float32)
        elif self.kind != "I8":
            x = x.astype(np.float32, copy=False)
        return x.reshape(self.shape)


class QuantizedTensor(NamedTuple):
    """An int8 matrix (R,C) and its scales (R,), one a row."""

    integers: StoredTensor
    scale: StoredTensor

    @property
    def shape(self) -> tuple:
        return self.integers.shape

    def read(self) -> np.ndarray:
        """scale · integers, float32. Raises ValueError for a scale that is not a finite number
        above 0."""
        scale = self.scale.read()
        wrong = np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))
        if len(wrong):
            raise ValueError(
                f"{self.scale.path} is not a whole quantised model: {self.scale.name} holds "
                f"{scale[wrong[0]]} at {wrong[0]}, not a number above 0; quantise it again"
            )
        return dequantize(self.integers.read(), scale)


def tensors_of(path: Path) -> dict[str, StoredTensor]:
    """{name: StoredTensor} of a safetensors file. Only the header is read.

    Raises MissingFileError, or ValueError for a damaged file.
    """
    if not path.exists():
        raise MissingFileError(f"{path} is missing, though the folder's index names it")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise _damaged(path, f"a header of {length} bytes, {LARGEST_HEADER} at most")
        try:
            with safetensors.safe_open(path, framework="numpy"):  # checks dtypes, shapes, offsets
                header = json.loads(file.read(length))
        except (safetensors.SafetensorError, ValueError, RecursionError) as error:
            raise _damaged(path, error) from None
    header.pop("__metadata__", None)
    return {
        name: StoredTensor(
            path, name, x["dtype"], tuple(x["shape"]), 8 + length + x["data_offsets"][0]
        )
        for name, x in header.items()
    }


def _damaged(path, reason):
    return ValueError(f"{path} is not a whole safetensors file ({reason}); fetch or save it again")
