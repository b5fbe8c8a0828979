"""Puzzle 4, softmax row: a block for each row, two reductions. The op `softmax`."""

import math

import numpy as np

from minidistil.ops import softmax
from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def softmax_row(x, y):
    """x, y (N,K): a block of 8 threads for each row."""
    n, t, K = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    part = cuda.shared.array(8, float32)

    top = float32(-math.inf)
    for k in range(t, K, 8):
        top = max(top, x[n, k])
    part[t] = top
    cuda.syncthreads()  # all maxima are there
    for j in range(8):
        top = max(top, part[j])
    cuda.syncthreads()  # all threads have read them: `part` is free

    total = float32(0)
    for k in range(t, K, 8):
        total += math.exp(x[n, k] - top)
    part[t] = total
    cuda.syncthreads()  # all sums are there
    total = float32(0)
    for j in range(8):
        total += part[j]

    for k in range(t, K, 8):
        y[n, k] = math.exp(x[n, k] - top) / total


ROW_MAX = "    for j in range(8):\n        top = max(top, part[j])\n"
SUM = "    total = float32(0)\n    for j in range(8):\n        total += part[j]\n"
ALL_MAXIMA = "    cuda.syncthreads()  # all maxima are there\n"
FREE = "    cuda.syncthreads()  # all threads have read them: `part` is free\n"
ALL_SUMS = "    cuda.syncthreads()  # all sums are there\n"
FIRST_LOOP = "    for k in range(t, K, 8):\n        top = max(top, x[n, k])\n"


def rows():
    """Small numbers, and numbers whose exponential is no float32."""
    x = np.random.default_rng(0).normal(0, 1.2, (2, 20))
    x[1] += 92
    return x.round(1).astype(np.float32)


def by_thread(x, whole):
    """Every thread uses the maximum of its own part and divides by its own sum or by all sums."""
    parts = [np.arange(t, x.shape[1], 8) for t in range(8)]
    own = np.zeros_like(x)
    for part in parts:
        own[:, part] = x[:, part].max(axis=1, keepdims=True)
    e = np.exp(x - (x.max(axis=1, keepdims=True) if not whole else own))
    if whole:
        return e / e.sum(axis=1, keepdims=True)
    for part in parts:
        own[:, part] = e[:, part].sum(axis=1, keepdims=True)
    return e / own


PUZZLE = Puzzle(
    softmax_row,
    lambda x: softmax.forward(x)[0],
    grid=(2,),
    block=(8,),
    inputs={"x": rows()},
    output="y",
    shared=16,
    right=[
        (("float32(-math.inf)", "x[n, t]"),),
        (("- top) / total", "- top - math.log(total))"),),
    ],
    wrong=[
        Broken("missing barrier", "line 9: part[t] = top", ((ALL_MAXIMA, ""),)),
        Broken("missing barrier", "line 17: part[t] = total", ((FREE, ""),)),
        Broken("missing barrier", "line 18: part[t] = total", ((ALL_SUMS, ""),)),
        Broken("divergent barrier", "4 of 8", ((ALL_SUMS, "    if t < 4:\n    " + ALL_SUMS),)),
        Broken("race", "both write part[0]", (
            ("    part[t] = total\n", "    part[0] += total\n"),)),
        Broken("race", "of block 0 and thread 0 of block 1 both write y[0, 0]",
              (("n, t, K = cuda.blockIdx.x", "n, t, K = 0"),)),
        Broken("out of bounds", "reads x[0, 20]", (
            (FIRST_LOOP, FIRST_LOOP.replace("t, K, 8", "t, K + 4, 8")),)),
        Broken("uncoalesced access", "thread 1 of block 0 reads x[0, 3]", (
            ("range(t, K, 8)", "range(3 * t, min(3 * t + 3, K))"),)),
        Broken("idle threads", "reads 20 of the 20 numbers", (
            ("range(t, K, 8)", "range(0 if t == 0 else K, K)"),)),
        Broken("idle threads", "thread 0 of block 0 reads 20 of the 20 numbers of x", (
            (FIRST_LOOP, FIRST_LOOP.replace("range(t, K, 8)", "range(0 if t == 0 else K, K)")),)),
        Broken("no sharing", "8 threads of a block read x[0, 0]", (
            (FIRST_LOOP, FIRST_LOOP.replace("t, K, 8", "K")),)),
        Broken("wrong result", "the row's maximum is not subtracted", (
            (ROW_MAX, "    top = float32(0)\n"),)),
        Broken("wrong result", "divides by the sum of its own part", ((SUM, ""),)),
        Broken("wrong result", "each thread subtracts the maximum of its own part", (
            (ROW_MAX, ""),)),
        Broken("wrong result", "not divided by their sum", ((" / total", ""),)),
    ],
    mistakes={
        "the row's maximum is not subtracted: eˣ of a large x is infinite": lambda x: (
            np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        ),
        "each thread divides by the sum of its own part; the row's sum is the sum of all parts": (
            lambda x: by_thread(x, whole=False)
        ),
        "each thread subtracts the maximum of its own part; the row has one maximum": (
            lambda x: by_thread(x, whole=True)
        ),
        "the exponentials are not divided by their sum": lambda x: np.exp(
            x - x.max(axis=1, keepdims=True)
        ),
    },
)  # fmt: skip
