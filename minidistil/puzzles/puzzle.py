"""A puzzle: an op's specification, arguments, a launch, and what is known of wrong kernels."""

import inspect
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from textwrap import dedent
from typing import Any, NamedTuple

import numpy as np

from minidistil.puzzles import recorder
from minidistil.puzzles.faults import Fault, faults, too_much_shared, wastes

TOLERANCE = 1e-4  # relative to the largest number of the result; sums are short, in float32


class Broken(NamedTuple):
    """A broken kernel, what is said about it, and how it differs from the solution.

    edits: (old, new) text of the solution's source. says: part of the sentence.
    """

    kind: str
    says: str
    edits: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Puzzle:
    """A kernel to write. Its arguments are the inputs, then the output, which begins as NaN."""

    solution: Callable
    specification: Callable  # of the inputs, in NumPy
    grid: tuple[int, ...]
    block: tuple[int, ...]
    inputs: Mapping[str, Any]
    output: str
    shared: int  # cells of shared memory that are enough for a block
    wrong: Sequence[Broken]
    right: Sequence[Sequence[tuple[str, str]]] = ()  # edits of the solution that are right, too
    mistakes: Mapping[str, Callable] = field(default_factory=dict)  # sentence -> wrong NumPy

    @property
    def name(self) -> str:
        """The name of the kernel."""
        return self.solution.__name__

    def source(self) -> str:
        """The solution, as a learner would write it."""
        return "@cuda.jit\n" + inspect.getsource(self.solution)

    def wanted(self, specification: Callable | None = None) -> np.ndarray:
        """The result of the specification, or of a wrong one, in float32."""
        with np.errstate(all="ignore"):
            result = (specification or self.specification)(*self.inputs.values())
        return np.asarray(result, np.float32)

    def run(self, kernel: Callable) -> recorder.Record:
        """Launch a kernel on the puzzle's arguments, and record it."""
        empty = np.full(self.wanted().shape, np.nan, np.float32)
        return recorder.record(kernel, self.grid, self.block, {**self.inputs, self.output: empty})

    def fault(self, record: recorder.Record) -> Fault | None:
        """The mistake to repair first; None if the kernel is right."""
        for found in faults(record):
            return found
        wasted = chain(wastes(record), too_much_shared(record, self.shared))
        return self._wrong_result(record) or next(wasted, None)

    def _wrong_result(self, record):
        for name, array in record.arrays.items():
            changed = array.values != array.before
            if name != self.output and changed.any():
                at = ", ".join(map(str, np.argwhere(changed)[0]))
                return Fault("input changed", f"{name}[{at}] is written, and {name} is an input")
        found, wanted = record.arrays[self.output].values, self.wanted()
        written = {a.cell for a in record.accesses if a.writes and a.array.name == self.output}
        for index in np.ndindex(wanted.shape):
            if index not in written:
                at = ", ".join(map(str, index))
                left = wanted.size - len(written)
                return Fault(
                    "never written",
                    f"no thread writes {self.output}[{at}]; cells that are not written: {left} of "
                    f"{wanted.size}",
                )
        if _same(found, wanted):
            return None
        for sentence, mistake in self.mistakes.items():
            if _same(found, self.wanted(mistake)):
                return Fault("wrong result", sentence)
        off = np.where(np.isfinite(found), np.abs(found - wanted), np.inf)
        index = np.unravel_index(np.argmax(off), off.shape)
        at = ", ".join(map(str, map(int, index)))
        return Fault(
            "wrong result",
            f"{self.output}[{at}] is {found[index]:.6g}, wanted {wanted[index]:.6g}",
        )

    def edited(self, edits: Sequence[tuple[str, str]]) -> Callable:
        """The solution with text replaced. Raises ValueError if it does not occur."""
        text = dedent(inspect.getsource(self.solution))
        for old, new in edits:
            if old not in text:
                raise ValueError(f"{self.name} has no {old!r} to replace")
            text = text.replace(old, new)
        file = f"<{self.name} {hash(text)}>"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
        names = dict(self.solution.__globals__)
        exec(compile(text, file, "exec"), names)
        return names[self.name]


def _same(found, wanted):
    finite = np.isfinite(wanted)
    if (np.isfinite(found) != finite).any():
        return False
    size = np.abs(wanted[finite]).max(initial=0)
    return np.abs(found[finite] - wanted[finite]).max(initial=0) <= TOLERANCE * size
