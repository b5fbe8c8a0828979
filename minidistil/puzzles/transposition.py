"""Puzzle 6, transposition: reads along rows, writes along rows, and the turn in shared memory.

The matrix product does the same with an operand whose rows run along K
(`minidistil/ops/kernels/matmul_cuda.py`).
"""

import numpy as np

from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def transposition(x, y):
    """x (8,N), y (N,8): a block of 8 × 8 threads for each tile."""
    tile = cuda.shared.array((8, 8), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    first = cuda.blockIdx.x * 8  # column of x, row of y
    tile[ty, tx] = x[ty, first + tx]
    cuda.syncthreads()
    y[first + ty, tx] = tile[tx, ty]


LOAD = "    tile[ty, tx] = x[ty, first + tx]\n    cuda.syncthreads()\n"
STORE = "y[first + ty, tx] = tile[tx, ty]"

PUZZLE = Puzzle(
    transposition,
    lambda x: x.T,
    grid=(2,),
    block=(8, 8),
    inputs={"x": np.arange(128, dtype=np.float32).reshape(8, 16)},
    output="y",
    shared=72,
    right=[(("tile[ty, tx] =", "tile[tx, ty] ="), ("tile[tx, ty]\n", "tile[ty, tx]\n"))],
    wrong=[
        Broken("uncoalesced access", "thread (1, 0) of block 0 writes y[1, 0]", (
            (LOAD, ""), (STORE, "y[first + tx, ty] = x[ty, first + tx]"))),
        Broken("uncoalesced access", "reads x[1, 0]", (
            (LOAD, ""), (STORE, "y[first + ty, tx] = x[tx, first + ty]"))),
        Broken("missing barrier", "thread (0, 1) of block 0 reads tile[0, 1]", (
            ("    cuda.syncthreads()\n", ""),)),
        Broken("out of bounds", "y has 16 × 8 cells", (
            (STORE, "y[ty, first + tx] = tile[tx, ty]"),)),
        Broken("race", "both write tile[0, 0]", (("tile[ty, tx] =", "tile[tx, 0] ="),)),
        Broken("race", "thread (0, 0) of block 1 both write y[0, 0]", (
            (STORE, "y[ty, tx] = tile[tx, ty]"),)),
        Broken("wrong result", "each tile is in its place, and its numbers are not transposed", (
            (STORE, "y[first + ty, tx] = tile[ty, tx]"),)),
    ],
    mistakes={
        "each tile is in its place, and its numbers are not transposed": lambda x: np.concatenate(
            [x[:, :8], x[:, 8:]]
        ),
    },
)  # fmt: skip
