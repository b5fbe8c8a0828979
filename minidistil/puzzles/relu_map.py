"""Puzzle 1, map: one thread for each number. y = max(x, 0), as in the op `relu`."""

import numpy as np

from minidistil.ops import relu
from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def relu_map(x, y):
    """x (N,), y (N,): a thread for each number."""
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    y[i] = max(x[i], float32(0))


FIRST = "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x"

PUZZLE = Puzzle(
    relu_map,
    lambda x: relu.forward(x)[0],
    grid=(2,),
    block=(4,),
    inputs={"x": np.array([3, -1, 4, -1, -5, 9, -2, 6], np.float32)},
    output="y",
    shared=0,
    right=[((FIRST, "cuda.grid(1)"),)],
    wrong=[
        Broken("race", "of block 0 and thread 0 of block 1 both write y[0]",
              ((FIRST, "cuda.threadIdx.x"),)),
        Broken("out of bounds", "reads x[-1]", ((FIRST, "cuda.grid(1) - 1"),)),
        Broken("out of bounds", "reads x[8]", ((FIRST, "cuda.grid(1) + 1"),)),
        Broken("out of bounds", "x has 8 cells", ((FIRST, "cuda.grid(1) * 2"),)),
        Broken("never written", "no thread writes y[4]; cells that are not written: 4 of 8",
              (("y[i] =", "if cuda.blockIdx.x == 0:\n        y[i] ="),)),
        Broken("wrong result", "this is min(x, 0)", (("max(", "min("),)),
        Broken("wrong result", "this is |x|", (("max(x[i], float32(0))", "abs(x[i])"),)),
        Broken("input changed", "x is an input", (("y[i] =", "y[i] = x[i] ="),)),
        Broken("wrong index", "needs integers, not float", (("y[i]", "y[i / 1]"),)),
        Broken("error", "NameError", (("x[i]", "z[i]"),)),
    ],
    mistakes={
        "this is min(x, 0)": lambda x: np.minimum(x, 0),
        "this is |x|": np.abs,
    },
)  # fmt: skip
