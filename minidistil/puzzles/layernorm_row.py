"""Puzzle 5, LayerNorm row: two sums that depend on each other. The op `layernorm`."""

import math

import numpy as np

from minidistil.ops import layernorm
from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def layernorm_row(x, gamma, beta, eps, y):
    """x, y (N,C), gamma, beta (C,): a block of 8 threads for each row."""
    n, t, C = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    part = cuda.shared.array(8, float32)

    total = float32(0)
    for c in range(t, C, 8):
        total += x[n, c]
    part[t] = total
    cuda.syncthreads()  # all sums are there
    mu = float32(0)
    for j in range(8):
        mu += part[j] / float32(C)
    cuda.syncthreads()  # all threads have read them: `part` is free

    total = float32(0)
    for c in range(t, C, 8):
        total += (x[n, c] - mu) * (x[n, c] - mu)
    part[t] = total
    cuda.syncthreads()  # all squares are there
    variance = float32(0)
    for j in range(8):
        variance += part[j] / float32(C)

    rstd = float32(1) / math.sqrt(variance + eps)
    for c in range(t, C, 8):
        y[n, c] = gamma[c] * (x[n, c] - mu) * rstd + beta[c]


LOOP = "range(t, C, 8)"
ALL_SUMS = "    cuda.syncthreads()  # all sums are there\n"
FREE = "    cuda.syncthreads()  # all threads have read them: `part` is free\n"
ALL_SQUARES = "    cuda.syncthreads()  # all squares are there\n"
LAST = "y[n, c] = gamma[c] * (x[n, c] - mu) * rstd + beta[c]"
RSTD = "float32(1) / math.sqrt(variance + eps)"


def arguments():
    """Rows with a mean, and ε large enough to be seen."""
    rng = np.random.default_rng(1)
    arrays = {"x": rng.normal(2, 1, (2, 20)), "gamma": rng.normal(1, 0.3, 20),
              "beta": rng.normal(0, 0.5, 20)}  # fmt: skip
    return {name: a.round(1).astype(np.float32) for name, a in arrays.items()} | {"eps": 0.5}


def normalised(x, gamma, beta, eps, *, mu=None, rstd=None, after=lambda y, g, b: g * y + b):
    """LayerNorm in which one piece can be another one."""
    mu = x.mean(axis=1, keepdims=True) if mu is None else mu
    rstd = 1 / np.sqrt(x.var(axis=1, keepdims=True) + eps) if rstd is None else rstd
    return after((x - mu) * rstd, gamma, beta)


def deviation(x, **options):
    """The standard deviation of each row (N,1)."""
    return x.std(axis=1, keepdims=True, **options)


PUZZLE = Puzzle(
    layernorm_row,
    lambda x, gamma, beta, eps: layernorm.forward(x, gamma, beta, eps=eps)[0],
    grid=(2,),
    block=(8,),
    inputs=arguments(),
    output="y",
    shared=16,
    right=[
        (("(x[n, c] - mu) * (x[n, c] - mu)", "x[n, c] * x[n, c]"),
         (RSTD, "1 / math.sqrt(variance - mu * mu + eps)")),
        (("mu += part[j] / float32(C)", "mu += part[j]"), (FREE, "    mu /= C\n" + FREE)),
    ],
    wrong=[
        Broken("missing barrier", "line 9: part[t] = total", ((ALL_SUMS, ""),)),
        Broken("missing barrier", "line 18: part[t] = total", ((FREE, ""),)),
        Broken("missing barrier", "line 19: part[t] = total", ((ALL_SQUARES, ""),)),
        Broken("divergent barrier", "reach a cuda.syncthreads()", (
            (ALL_SQUARES, ALL_SQUARES.replace("    cuda", "    if t:\n        cuda")),)),
        Broken("race", "both write part[0]", (("    part[t] = total\n", "    part[0] = total\n"),)),
        Broken("out of bounds", "gamma has 20 cells", (("gamma[c]", "gamma[c + 1]"),)),
        Broken("uncoalesced access", "thread 1 of block 0 reads x[0, 3]", (
            (LOOP, "range(3 * t, min(3 * t + 3, C))"),)),
        Broken("idle threads", "reads 20 of the 20 numbers of x", (
            (LOOP, "range(0 if t == 0 else C, C)"),)),
        Broken("wrong result", "ε is outside the root", (
            (RSTD, "1 / (math.sqrt(variance) + eps)"),)),
        Broken("wrong result", "ε is missing", ((RSTD, "1 / math.sqrt(variance)"),)),
        Broken("wrong result", "divided by C − 1", (
            ("variance += part[j] / float32(C)", "variance += part[j] / (C - 1)"),)),
        Broken("wrong result", "divides by the variance", ((RSTD, "1 / (variance + eps)"),)),
        Broken("wrong result", "the mean is not subtracted", (
            ("(x[n, c] - mu) * rstd", "x[n, c] * rstd"),)),
        Broken("wrong result", "β is scaled", (
            (LAST, "y[n, c] = gamma[c] * ((x[n, c] - mu) * rstd + beta[c])"),)),
        Broken("wrong result", "γ and β are missing", ((LAST, "y[n, c] = (x[n, c] - mu) * rstd"),)),
        Broken("wrong result", "wanted", (("gamma[c]", "gamma[t]"), ("beta[c]", "beta[t]"))),
    ],
    mistakes={
        "ε is outside the root: it is added to the variance, not to the standard deviation": (
            lambda x, *a: normalised(x, *a, rstd=1 / (deviation(x) + a[2]))
        ),
        "ε is missing": lambda x, *a: normalised(x, *a, rstd=1 / deviation(x)),
        "the variance is divided by C − 1; LayerNorm divides by C": lambda x, *a: normalised(
            x, *a, rstd=1 / np.sqrt(deviation(x, ddof=1) ** 2 + a[2])
        ),
        "this divides by the variance, not by its root": lambda x, *a: normalised(
            x, *a, rstd=1 / (deviation(x) ** 2 + a[2])
        ),
        "the mean is not subtracted in the last line": lambda x, *a: normalised(x, *a, mu=0),
        "β is scaled by γ: it is added after the scaling": lambda x, *a: normalised(
            x, *a, after=lambda y, g, b: g * (y + b)
        ),
        "γ and β are missing": lambda x, *a: normalised(x, *a, after=lambda y, g, b: y),
    },
)  # fmt: skip
