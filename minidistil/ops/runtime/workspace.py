"""Memory that goes round: what one training step has used serves the next.

A fresh array of some megabytes costs more than it seems: the operating system hands out its pages
one by one, cleared, at the first touch, and takes them back when the array dies. A training step
makes and drops hundreds of such arrays, the same ones every time. Inside `with Workspace():` they
are cut from buffers that stay.

A buffer is free again when nothing refers to it any more but the workspace. NumPy lets every view
of an array, and every view of a view, hold on to the array that owns the memory, so the owner's
reference count tells: no array that anybody can still see is ever handed out twice.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

SMALL = 1 << 16  # bytes; below, malloc reuses memory by itself
LINE = 64  # bytes in a cache line, and in the widest vector

_active = ContextVar("workspace", default=None)
_frugal = ContextVar("frugal", default=False)


class Workspace:
    """`with Workspace():` the kernels' arrays share recycled memory. Reusable, not reentrant."""

    def __init__(self):
        self._buffers = {}  # {bytes: [array of that many bytes, …]}
        self._idle = sys.getrefcount(self._new(LINE)[0])

    def __enter__(self) -> "Workspace":
        self._token = _active.set(self)
        return self

    def __exit__(self, *error):
        _active.reset(self._token)

    @property
    def nbytes(self) -> int:
        """Bytes held, in use or not."""
        return sum(size * len(buffers) for size, buffers in self._buffers.items())

    def take(self, nbytes: int) -> np.ndarray:
        """A buffer of at least nbytes that nobody uses, aligned to a cache line."""
        size = size_class(nbytes + LINE)
        found = self._buffers.get(size, ())
        for i in range(len(found)):
            if sys.getrefcount(found[i]) == self._idle:
                return found[i]
        return self._new(size)[-1]

    def _new(self, size):
        buffers = self._buffers.setdefault(size, [])
        buffers.append(np.empty(size, np.uint8))
        return buffers


def size_class(nbytes):
    """The next of eight sizes between two powers of two: at most an eighth is wasted."""
    step = 1 << max(nbytes.bit_length() - 4, 0)
    return -(-nbytes // step) * step


def empty(shape, dtype=np.float32):
    """np.empty, from the active workspace if there is one."""
    workspace, dtype = _active.get(), np.dtype(dtype)
    cells = math.prod(shape) if isinstance(shape, tuple) else int(shape)
    nbytes = cells * dtype.itemsize
    if workspace is None or nbytes < SMALL:
        return np.empty(shape, dtype)
    buffer = workspace.take(nbytes)
    start = -buffer.__array_interface__["data"][0] % LINE
    return buffer[start : start + nbytes].view(dtype).reshape(shape)


def empty_like(x):
    """An array of x's shape and dtype, in C order."""
    return empty(x.shape, x.dtype)


def zeros(shape, dtype=np.float32):
    """The same filled with zeros."""
    x = empty(shape, dtype)
    x[...] = 0
    return x


@contextmanager
def frugal() -> Iterator[None]:
    """`with frugal():` nothing is kept from one call to the next for the sake of speed.

    A training step is run like this: a second copy of every weight, laid out for the matrix
    product, would take as much memory as teacher and student do, and save one part in a hundred of
    the time where a batch has a thousand tokens.
    """
    token = _frugal.set(True)
    try:
        yield
    finally:
        _frugal.reset(token)


def is_frugal():
    """Whether this runs inside `with frugal():`."""
    return _frugal.get()
