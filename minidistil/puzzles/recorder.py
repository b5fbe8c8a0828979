"""Runs a kernel and records which thread reads and writes which cell.

`record` gives the kernel arrays that note every access. Two accesses of a cell by different threads
of a block are ordered if a barrier lies between them, that is, if the threads had passed different
numbers of barriers. Whether a race exists therefore follows from the recorded numbers, not from the
order in which the threads happened to run.

An access outside an array is recorded, then ignored: a read returns NaN. Memory that no thread has
written holds NaN.
"""

import linecache
import operator
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidistil.ops.runtime.simulated_launch import launch
from minidistil.ops.runtime.simulator import this_lane

MOST = 20_000  # accesses of a kernel that will end; the solutions need at most 6,000


class EndlessError(RuntimeError):
    """A kernel that has made MOST accesses and still runs."""


class AtomicError(RuntimeError):
    """A use of cuda.atomic."""


class IndexTypeError(TypeError):
    """An index that does not name one cell."""


class Thread(NamedTuple):
    """A CUDA thread: the indices of its block and its own."""

    block: tuple[int, int, int]
    index: tuple[int, int, int]
    number: int  # within the block


class Access(NamedTuple):
    """One read or write of one cell."""

    array: "Array"
    cell: tuple[int, ...]
    writes: bool
    value: float  # that was read or written
    thread: Thread
    barriers: int  # that the thread has passed
    line: int  # of the source file
    visit: int  # how often the thread has been at this line before, with this array


class Line(NamedTuple):
    """A line of a kernel's source."""

    number: int  # 1 at the kernel's first line
    text: str


class Array:
    """What a kernel sees as an array. Its cells are read and written one at a time."""

    def __init__(self, name: str, values: np.ndarray, record: "Record", shared=None):
        self.name, self.values, self._record = name, values, record
        self.shared = shared  # the block that it belongs to; None for global memory
        self.before = values.copy()
        self.shape, self.ndim, self.size = values.shape, values.ndim, values.size
        self.dtype = values.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        cell = self._cell(index)
        value = self.values[cell] if self.holds(cell) else self.dtype.type(np.nan)
        self._record.add(self, cell, False, value, sys._getframe(1).f_lineno)
        return value

    def __setitem__(self, index, value):
        cell = self._cell(index)
        if self.holds(cell):
            self.values[cell] = value
        self._record.add(self, cell, True, value, sys._getframe(1).f_lineno)

    def __iter__(self):
        raise IndexTypeError(f"{self.name} is used one cell at a time, as in {self.name}[i]")

    def __array__(self, *args, **options):
        return iter(self)

    def holds(self, cell: tuple[int, ...]) -> bool:
        """Whether the array has this cell. Negative indices are outside, as on a device."""
        return all(0 <= i < n for i, n in zip(cell, self.shape, strict=True))

    def _cell(self, index):
        index = index if isinstance(index, tuple) else (index,)
        try:
            cell = tuple(map(operator.index, index))
        except TypeError:
            kinds = ", ".join(type(i).__name__ for i in index)
            raise IndexTypeError(f"{self.name}[…] needs integers, not {kinds}") from None
        if len(cell) != self.ndim:
            axes = f"{self.name} has {self.ndim} axes"
            raise IndexTypeError(
                f"{axes}, so {self.name}[…] needs as many indices, not {len(cell)}"
            )
        return cell


class Record:
    """The accesses of one launch, in the order in which they happened."""

    def __init__(self, function: Callable, grid: Sequence[int], block: Sequence[int]):
        self.code = getattr(function, "py_func", function).__code__
        self.grid, self.block = tuple(grid), tuple(block)
        self.accesses: list[Access] = []
        self.arrays: dict[str, Array] = {}  # in global memory
        self.shared: dict[tuple, list[Array]] = defaultdict(list)  # of each block
        self.error: Exception | None = None
        self._visits = defaultdict(int)

    def add(self, array: Array, cell: tuple[int, ...], writes: bool, value: Any, line: int) -> None:
        """Note an access of the running thread."""
        lane = this_lane()
        thread = Thread(tuple(lane.blockIdx), tuple(lane.threadIdx), lane.thread_id)
        key = thread, array.name, line, writes
        place = array, cell, writes, float(value), thread, lane.barriers, line
        self.accesses.append(Access(*place, self._visits[key]))
        self._visits[key] += 1
        if len(self.accesses) >= MOST:
            raise EndlessError(f"the kernel has made {MOST:,} accesses and has not ended")

    def line(self, number: int) -> Line:
        """The line of the kernel with this number in its file."""
        first = self.code.co_firstlineno
        text = linecache.getline(self.code.co_filename, number).strip()
        return Line(number - first + 1, text.split("  #")[0])


class _Shared:
    """`cuda.shared` of one block: an array for each line that asks for one."""

    def __init__(self, record, block):
        self.record, self.block, self.arrays = record, block, {}

    def array(self, shape, dtype):
        line = sys._getframe(1).f_lineno
        if line not in self.arrays:
            words = re.match(r"(\w+) *=", self.record.line(line).text)
            name = words[1] if words else f"shared{len(self.arrays)}"
            dtype = np.dtype(str(dtype)) if not isinstance(dtype, type) else np.dtype(dtype)
            values = np.full(shape, np.nan if dtype.kind == "f" else 0, dtype)
            self.arrays[line] = Array(name, values, self.record, self.block)
            self.record.shared[self.block].append(self.arrays[line])
        return self.arrays[line]


class _NoAtomics:
    def __getattr__(self, name):
        raise AtomicError(
            f"cuda.atomic.{name} adds in an order that changes from run to run, and so do the last "
            "bits; here one thread alone writes a cell"
        )


def record(
    kernel: Callable, grid: Sequence[int], block: Sequence[int], arguments: Mapping[str, Any]
) -> Record:
    """Launch a kernel on copies of the arguments  ->  what its threads did.

    arguments: name -> array or number, in the order of the kernel's parameters. An exception of the
    kernel ends the run and is kept in `error`.
    """
    noted = Record(kernel, grid, block)
    given = []
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            noted.arrays[name] = value = Array(name, value.copy(), noted)
        given.append(value)
    try:
        launch(
            kernel, grid, block, given,
            lambda index: {"shared": _Shared(noted, index), "atomic": _NoAtomics()},
        )  # fmt: skip
    except Exception as error:  # a kernel may raise anything; the caller describes it
        noted.error = error
    return noted
