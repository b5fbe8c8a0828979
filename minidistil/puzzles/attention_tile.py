"""Puzzle 8, one tile of attention: a softmax that never holds a row. The op `attention`.

Each thread has a query; keys and values pass by in tiles of four. A thread keeps the maximum of the
scores that it has seen, the sum of eˢ⁻ᵐᵃˣ and the weighted sum of the values. When the maximum
grows, both sums shrink by the same factor. `minidistil/ops/kernels/flash_attention_cuda.py` does
this with tiles of queries, too. (Milakov and Gimelshein, 2018; Dao et al., 2022.)
"""

import math

import numpy as np

from minidistil.ops import softmax
from minidistil.ops.runtime.cuda import cuda, float32
from minidistil.puzzles.puzzle import Broken, Puzzle


def attention_tile(q, k, v, y):
    """q, y (D,T_q), k, v (T_k,D): a thread for each query, D = 4."""
    keys = cuda.shared.array((4, 4), float32)
    values = cuda.shared.array((4, 4), float32)
    own = cuda.local.array(4, float32)
    sums = cuda.local.array(4, float32)
    t, D = cuda.threadIdx.x, q.shape[0]
    for d in range(D):
        own[d] = q[d, t] / math.sqrt(float32(D))
        sums[d] = 0
    top, total = float32(-math.inf), float32(0)

    for first in range(0, k.shape[0], 4):
        for i in range(t, 16, 8):
            keys[i // 4, i % 4] = k[first + i // 4, i % 4]
            values[i // 4, i % 4] = v[first + i // 4, i % 4]
        cuda.syncthreads()  # the tile is there
        for j in range(4):
            score = float32(0)
            for d in range(D):
                score += own[d] * keys[j, d]
            new_top = max(top, score)
            shrink, p = math.exp(top - new_top), math.exp(score - new_top)
            total = total * shrink + p
            for d in range(D):
                sums[d] = sums[d] * shrink + p * values[j, d]
            top = new_top
        cuda.syncthreads()  # all threads have used it

    for d in range(D):
        y[d, t] = sums[d] / total


THERE = "        cuda.syncthreads()  # the tile is there\n"
USED = "        cuda.syncthreads()  # all threads have used it\n"
FETCH = "        for i in range(t, 16, 8):\n"
SCALED = " / math.sqrt(float32(D))"


def arguments():
    """q (D,T_q), k and v (T_k,D). One query has scores whose exponentials are no float32."""
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(0, 1, s).round(1) for s in ((4, 8), (12, 4), (12, 4)))
    q[:, 5] *= 60
    k[:, 0] += np.linspace(-1, 1, 12)  # the maximum grows on the way
    return {name: a.astype(np.float32) for name, a in (("q", q), ("k", k), ("v", v))}


def scores(q, k):
    """q (D,T_q), k (T_k,D)  ->  scaled scores (T_q,T_k)."""
    return q.T @ k.T / np.sqrt(np.float32(len(q)))


def specification(q, k, v):
    """softmax(qᵀkᵀ/√D)·v, as columns (D,T_q)."""
    return (softmax.forward(scores(q, k))[0] @ v).T


def streamed(q, k, v, *, scale=True, shrink_sums=True, shrink_total=True, subtract=True):
    """The recurrence over the keys, with one piece left out."""
    s = scores(q, k) if scale else q.T @ k.T
    top, total = np.full(len(s), -np.inf if subtract else 0, np.float32), 0
    sums = np.zeros((len(s), v.shape[1]), np.float32)
    for j in range(len(k)):
        new = np.maximum(top, s[:, j]) if subtract else top
        shrink, p = np.exp(top - new), np.exp(s[:, j] - new)
        total = total * (shrink if shrink_total else 1) + p
        sums = sums * (shrink[:, None] if shrink_sums else 1) + p[:, None] * v[j]
        top = new
    return (sums / np.reshape(total, (-1, 1))).T


def last_tile(q, k, v):
    """Attention to the last four keys alone."""
    return specification(q, k[-4:], v[-4:])


PUZZLE = Puzzle(
    attention_tile,
    specification,
    grid=(1,),
    block=(8,),
    inputs=arguments(),
    output="y",
    shared=40,
    right=[
        ((SCALED, ""), ("own[d] * keys[j, d]\n", "own[d] * keys[j, d] / math.sqrt(D)\n")),
        ((USED, ""), (FETCH, "        cuda.syncthreads()\n" + FETCH)),
    ],
    wrong=[
        Broken("missing barrier", "reads keys[0, 0]", ((THERE, ""),)),
        Broken("missing barrier", "writes it (line 15: keys", ((USED, ""),)),
        Broken("divergent barrier", "reach a cuda.syncthreads()", (
            (THERE, "        if q[0, t] > 0:\n    " + THERE),)),
        Broken("race", "both write keys[0, 0]", (("range(t, 16, 8)", "range(16)"),)),
        Broken("out of bounds", "reads k[12, 0], and k has 12 × 4 cells", (
            ("range(0, k.shape[0], 4)", "range(4, k.shape[0] + 4, 4)"),)),
        Broken("uninitialised memory", "reads keys[2, 0]", (
            ("range(t, 16, 8)", "range(t, 8, 8)"),)),
        Broken("no sharing", "8 threads of a block read k[0, 0]", (
            (FETCH, "        for i in ():\n"), ("keys[j, d]", "k[first + j, d]"),
            ("values[j, d]", "v[first + j, d]"))),
        Broken("too much shared memory", "96 cells of shared memory, and 40 are enough", (
            ("array((4, 4)", "array((12, 4)"), ("k.shape[0], 4)", "12, 12)"),
            ("range(t, 16, 8)", "range(t, 48, 8)"), ("in range(4)", "in range(12)"))),
        Broken("wrong result", "1/√D is missing", ((SCALED, ""),)),
        Broken("wrong result", "the weighted sum of the values does not shrink", (
            ("sums[d] * shrink", "sums[d]"),)),
        Broken("wrong result", "the sum of the weights does not shrink", (
            ("total * shrink", "total"),)),
        Broken("wrong result", "no maximum is subtracted", (
            ("new_top = max(top, score)", "new_top = float32(0)"), ("-math.inf", "0"))),
        Broken("wrong result", "not divided by the sum of the weights", ((" / total", ""),)),
        Broken("wrong result", "only the last tile", (
            ("        for j in range(4):\n", "        top, total = float32(-math.inf), float32(0)\n"
             "        for j in range(4):\n"),)),
        Broken("wrong result", "only the first tile", (("k.shape[0], 4", "4, 4"),)),
        Broken("wrong result", "wanted", (("top - new_top), ", "new_top - top), "),)),
    ],
    mistakes={
        "1/√D is missing": lambda q, k, v: streamed(q, k, v, scale=False),
        "the weighted sum of the values does not shrink when the maximum grows": lambda q, k, v: (
            streamed(q, k, v, shrink_sums=False)
        ),
        "the sum of the weights does not shrink when the maximum grows": lambda q, k, v: (
            streamed(q, k, v, shrink_total=False)
        ),
        "no maximum is subtracted: eˢ of a large score is infinite": lambda q, k, v: streamed(
            q, k, v, subtract=False
        ),
        "the weighted sum is not divided by the sum of the weights": lambda q, k, v: (
            np.exp(scores(q, k) - scores(q, k).max(axis=1, keepdims=True)) @ v
        ).T,
        "this attends to the keys of only the last tile": last_tile,
        "this attends to the keys of only the first tile": lambda q, k, v: (
            specification(q, k[:4], v[:4])
        ),
    },
)  # fmt: skip
