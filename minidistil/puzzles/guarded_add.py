"""Puzzle 2, guard: more threads than numbers. y = a + b, as in the op `add`."""

import numpy as np

from minidistil.ops import add
from minidistil.ops.runtime.cuda import cuda
from minidistil.puzzles.puzzle import Broken, Puzzle


def guarded_add(a, b, y):
    """a, b, y (N,): more threads than numbers."""
    i = cuda.grid(1)
    if i < y.shape[0]:
        y[i] = a[i] + b[i]


GUARD = "i < y.shape[0]"

PUZZLE = Puzzle(
    guarded_add,
    lambda a, b: add.forward(a, b)[0],
    grid=(3,),
    block=(4,),
    inputs={"a": np.arange(10, dtype=np.float32), "b": np.arange(10, 0, -1, dtype=np.float32) ** 2},
    output="y",
    shared=0,
    right=[((GUARD, "i < len(a)"),), ((GUARD, "i < a.size"),)],
    wrong=[
        Broken("out of bounds", "thread 2 of block 2 reads a[10], and a has 10 cells",
              ((GUARD, "True"),)),
        Broken("out of bounds", "a[10]", ((GUARD, "i <= y.shape[0]"),)),
        Broken("never written", "no thread writes y[9]; cells that are not written: 1 of 10", (
            (GUARD, "i < y.shape[0] - 1"),)),
        Broken("race", "both write y[0]", (("cuda.grid(1)", "cuda.threadIdx.x"),)),
        Broken("wrong result", "this is a − b", (("a[i] + b[i]", "a[i] - b[i]"),)),
    ],
    mistakes={"this is a − b": lambda a, b: a - b},
)  # fmt: skip
