"""A buffer pool: the arrays of one training step are reused by the next.

A fresh array of several megabytes is expensive: the operating system provides its pages one by one,
cleared, at the first touch, and takes them back when the array dies. A training step makes and
drops hundreds of such arrays, of the same sizes every time. Inside `with Workspace():` they are cut
from buffers that stay allocated.

A buffer is free again when only the workspace refers to it. In NumPy every view of an array, and
every view of a view, holds a reference to the array that owns the memory, so the owner's reference
count decides: memory that any array still shows is never handed out again. The parameters of a
model in training are such arrays, too: AdamW writes the new ones into the memory of earlier ones.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

import numpy as np

SMALL = 1 << 16  # bytes, below which malloc reuses memory by itself
LINE = 64  # bytes in a cache line, and in the widest vector

_active = ContextVar("workspace", default=None)
_frugal = ContextVar("frugal", default=False)


class Buffer(np.ndarray):
    """A buffer of bytes. A type of its own ends NumPy's search for an owner: the array that `empty`
    cuts from it is the `base` of its own views, as an array with memory of its own is."""

    start: int  # of the first cache line

    @classmethod
    def new(cls, size: int) -> Self:
        """A buffer of that many bytes."""
        buffer = cls(size, np.uint8)
        buffer.start = -buffer.ctypes.data % LINE
        return buffer


class Workspace:
    """`with Workspace():` recycles the memory of the kernels' arrays. Reusable, not reentrant."""

    def __init__(self):
        self._buffers = {}  # {bytes: [array of that many bytes, …]}
        self._idle = sys.getrefcount(self._new(LINE)[0])

    def __enter__(self) -> Self:
        self._token = _active.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _active.reset(self._token)

    @property
    def nbytes(self) -> int:
        """Bytes held, in use or free."""
        return sum(size * len(buffers) for size, buffers in self._buffers.items())

    def take(self, nbytes: int) -> Buffer:
        """A free buffer with room for nbytes from the beginning of a cache line on."""
        size = size_class(nbytes + LINE)
        found = self._buffers.get(size, ())
        for i in range(len(found)):
            if sys.getrefcount(found[i]) == self._idle:
                return found[i]
        return self._new(size)[-1]

    def _new(self, size):
        buffers = self._buffers.setdefault(size, [])
        buffers.append(Buffer.new(size))
        return buffers


def size_class(nbytes: int) -> int:
    """nbytes rounded up to one of eight sizes between two powers of two, by an eighth at most."""
    step = 1 << max(nbytes.bit_length() - 4, 0)
    return -(-nbytes // step) * step


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """np.empty, from the active workspace if there is one; a large array begins with a cache line.

    Where it does not, each vector of 64 bytes lies in two lines.
    """
    workspace, dtype = _active.get(), np.dtype(dtype)
    cells = math.prod(shape) if isinstance(shape, tuple) else int(shape)
    nbytes = cells * dtype.itemsize
    if nbytes < SMALL:
        return np.empty(shape, dtype)
    buffer = Buffer.new(nbytes + LINE) if workspace is None else workspace.take(nbytes)
    return np.ndarray(shape, dtype, buffer, buffer.start)


def owns_memory(x: np.ndarray) -> bool:
    """Whether x is no view of another array."""
    return x.base is None or isinstance(x.base, Buffer)


def aligned(nbytes: int) -> np.ndarray:
    """Bytes from the beginning of a cache line on."""
    raw = empty(nbytes + LINE, np.uint8)
    return raw[-raw.__array_interface__["data"][0] % LINE :][:nbytes]


def empty_like(x: np.ndarray) -> np.ndarray:
    """An array of x's shape and dtype, in C order."""
    return empty(x.shape, x.dtype)


def zeros(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """`empty`, filled with zeros."""
    x = empty(shape, dtype)
    x[...] = 0
    return x


@contextmanager
def frugal() -> Iterator[None]:
    """`with frugal():` kernels keep nothing between two calls for the sake of speed.

    A training step runs frugally: a second copy of every weight, packed for the matrix product,
    would take as much memory as teacher and student, and save 1 % of the time of a batch of a
    thousand tokens.
    """
    token = _frugal.set(True)
    try:
        yield
    finally:
        _frugal.reset(token)


def is_frugal() -> bool:
    """Whether `with frugal():` is in effect."""
    return _frugal.get()
