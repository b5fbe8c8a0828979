"""Puzzle 3, block sum: threads add up what they have, through shared memory.

`block_sum` in `minidistil/ops/runtime/cuda.py` does the same after a sum within each warp.
"""

import numpy as np

from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def block_sum(x, total):
    """x (N,), total (1,): one block of 8 threads."""
    t = cuda.threadIdx.x
    sums = cuda.shared.array(8, float32)
    part = float32(0)
    for i in range(t, x.shape[0], cuda.blockDim.x):  # neighbours read neighbours
        part += x[i]
    sums[t] = part
    cuda.syncthreads()  # all parts are there
    width = 4
    while width > 0:
        if t < width:
            sums[t] += sums[t + width]
        cuda.syncthreads()  # the next level reads these sums
        width //= 2
    if t == 0:
        total[0] = sums[0]


HALVES = """    width = 4
    while width > 0:
        if t < width:
            sums[t] += sums[t + width]
        cuda.syncthreads()  # the next level reads these sums
        width //= 2
    if t == 0:
        total[0] = sums[0]
"""
ONE_ADDS = """    if t == 0:
        for j in range(8):
            total[0] = sums[j] + (total[0] if j else float32(0))
"""
STRIDED = "range(t, x.shape[0], cuda.blockDim.x):  # neighbours read neighbours"
PARTS = "    cuda.syncthreads()  # all parts are there\n"
LEVEL = "        cuda.syncthreads()  # the next level reads these sums\n"

PUZZLE = Puzzle(
    block_sum,
    lambda x: x.sum(keepdims=True),
    grid=(1,),
    block=(8,),
    inputs={"x": np.array([int(digit) for digit in "31415926535897932384"], np.float32)},
    output="total",
    shared=8,
    right=[((HALVES, ONE_ADDS),), (("if t == 0:", "if t == 7:"), ("sums[0]\n", "sums[0] + 0\n"))],
    wrong=[
        Broken("missing barrier", "thread 0 reads sums[4]", ((PARTS, ""),)),
        Broken("missing barrier", "thread 0 reads sums[1]", ((LEVEL, ""),)),
        Broken("divergent barrier", "4 of 8 threads", ((LEVEL, "    " + LEVEL),)),
        Broken("race", "both write total[0]", (("    if t == 0:\n        ", "    "),)),
        Broken("race", "thread 0 and thread 1 both write total[0]", (
            ("    sums[t] = part\n", "    total[0] += part\n"), (PARTS, ""), (HALVES, ""))),
        Broken("atomic", "cuda.atomic.add adds in an order that changes", (
            ("    sums[t] = part\n", "    cuda.atomic.add(total, 0, part)\n"),)),
        Broken("missing barrier", "thread 1 writes it", (("if t < width:", "if t + width < 8:"),)),
        Broken("out of bounds", "sums[8], and sums has 8 cells", (
            ("        if t < width:\n    ", ""),)),
        Broken("uninitialised memory", "reads sums[8]", (
            ("array(8", "array(16"), ("width = 4", "width = 8"))),
        Broken("uncoalesced access", "thread 0 reads x[0] while thread 1 reads x[3]", (
            (STRIDED, "range(3 * t, min(3 * t + 3, x.shape[0])):"),)),
        Broken("idle threads", "thread 0 reads 20 of the 20 numbers", (
            (STRIDED, "range(x.shape[0] if t == 0 else 0):"),)),
        Broken("no sharing", "8 threads of a block read x[0]", (
            (STRIDED, "range(x.shape[0]):"), ("= sums[0]", "= sums[0] / 8"))),
        Broken("endless loop", "does the loop's variable change?", (
            ("width //= 2", "width //= 1"),)),
        Broken("too much shared memory", "20 cells of shared memory, and 8 are enough", (
            ("array(8", "array(20"), ("part += x[i]", "sums[i] = x[i]"),
            ("    sums[t] = part\n", ""), (HALVES, ONE_ADDS.replace("range(8)", "range(20)")))),
        Broken("wrong result", "only the first 8 numbers", ((STRIDED, "range(t, 8, 8):"),)),
        Broken("wrong result", "only the part of thread 0", ((HALVES, (
            "    if t == 0:\n        total[0] = sums[0]\n")),)),
        Broken("wrong result", "a level is missing", (("width > 0", "width > 1"),)),
        Broken("wrong result", "this is the mean", (("= sums[0]", "= sums[0] / x.shape[0]"),)),
    ],
    mistakes={
        "only the first 8 numbers are added; each thread has to go on in steps of 8": lambda x: (
            x[:8].sum(keepdims=True)
        ),
        "this is only the part of thread 0": lambda x: x[::8].sum(keepdims=True),
        "a level is missing: the sum over every second part": lambda x: (
            sum(x[i::8].sum(keepdims=True) for i in (0, 2, 4, 6))
        ),
        "this is the mean": lambda x: x.mean(keepdims=True),
    },
)  # fmt: skip
