"""Puzzle 7, tiled product: each number that a block fetches is used eight times.

`minidistil/ops/kernels/matmul_cuda.py` adds tiles in registers to this.
"""

import numpy as np

from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def tiled_product(a, b, c):
    """a (8,K), b (K,N), c (8,N): a block of 8 × 8 threads for each tile of c."""
    a_tile = cuda.shared.array((8, 8), float32)
    b_tile = cuda.shared.array((8, 8), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    m, n = ty, cuda.blockIdx.x * 8 + tx
    total = float32(0)
    for k0 in range(0, a.shape[1], 8):
        a_tile[ty, tx] = a[m, k0 + tx]
        b_tile[ty, tx] = b[k0 + ty, n]
        cuda.syncthreads()  # the tiles are there
        for k in range(8):
            total += a_tile[ty, k] * b_tile[k, tx]
        cuda.syncthreads()  # all threads have used them
    c[m, n] = total


THERE = "        cuda.syncthreads()  # the tiles are there\n"
USED = "        cuda.syncthreads()  # all threads have used them\n"
LOAD = "        a_tile[ty, tx] = a[m, k0 + tx]\n        b_tile[ty, tx] = b[k0 + ty, n]\n"
TERM = "a_tile[ty, k] * b_tile[k, tx]"


def arguments():
    """A (8,16) and B (16,16): two blocks, two steps."""
    rng = np.random.default_rng(2)
    shapes = {"a": (8, 16), "b": (16, 16)}
    return {name: rng.integers(-3, 4, s).astype(np.float32) for name, s in shapes.items()}


PUZZLE = Puzzle(
    tiled_product,
    lambda a, b: a @ b,
    grid=(2,),
    block=(8, 8),
    inputs=arguments(),
    output="c",
    shared=144,
    right=[
        (("b_tile[ty, tx] =", "b_tile[tx, ty] ="), ("b_tile[k, tx]", "b_tile[tx, k]")),
        (("        cuda.syncthreads()  # all threads have used them\n", ""),
         ("        a_tile[ty, tx] = a", "        cuda.syncthreads()\n        a_tile[ty, tx] = a")),
    ],
    wrong=[
        Broken("no sharing", "8 threads of a block read a[0, 0] from global memory", (
            (LOAD, ""), (TERM, "a[m, k0 + k] * b[k0 + k, n]"))),
        Broken("missing barrier", "reads a_tile[0, 0]", ((THERE, ""),)),
        Broken("missing barrier", "line 13: total +=", ((USED, ""),)),
        Broken("divergent barrier", "reach a cuda.syncthreads()", (
            (THERE, "        if tx > ty:\n    " + THERE),)),
        Broken("uncoalesced access", "reads a[1, 0]", (
            ("a_tile[ty, tx] = a[m, k0 + tx]", "a_tile[tx, ty] = a[tx, k0 + ty]"),)),
        Broken("out of bounds", "a has 8 × 16 cells", (
            ("m, n = ty, cuda.blockIdx.x * 8 + tx", "m, n = cuda.blockIdx.x * 8 + ty, tx"),)),
        Broken("race", "both write c[0, 0]", (("c[m, n]", "c[m, tx]"),)),
        Broken("wrong result", "only the last step", (
            ("    total = float32(0)\n", ""),
            ("        for k in", "        total = float32(0)\n        for k in"))),
        Broken("wrong result", "only the first step", (("a.shape[1], 8", "8, 8"),)),
        Broken("wrong result", "the same tiles in every step", (
            ("a[m, k0 + tx]", "a[m, tx]"), ("b[k0 + ty, n]", "b[ty, n]"))),
        Broken("wrong result", "the product of A and the transposed tiles of B", (
            (TERM, "a_tile[ty, k] * b_tile[tx, k]"),)),
        Broken("wrong result", "the product of the transposed tiles of A and B", (
            (TERM, "a_tile[k, ty] * b_tile[k, tx]"),)),
    ],
    mistakes={
        "the product of the transposed tiles of A and B": lambda a, b: a.reshape(8, 2, 8).T.reshape(
            8, 16
        ) @ b,
        "this is only the last step along K; the sum goes over all steps": lambda a, b: (
            a[:, 8:] @ b[8:]
        ),
        "this is only the first step along K": lambda a, b: a[:, :8] @ b[:8],
        "the same tiles in every step: k0 is missing": lambda a, b: 2 * (a[:, :8] @ b[:8]),
        "the product of A and the transposed tiles of B": lambda a, b: a @ np.block(
            [[b[i : i + 8, j : j + 8].T for j in (0, 8)] for i in (0, 8)]
        ),
    },
)  # fmt: skip
