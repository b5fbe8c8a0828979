"""Chapter 10, three implementations: partial sums of chunks."""

import numpy as np

from minidistil.lesson.exercise import exercise, rng


@exercise(
    cases=lambda: [(rng(1).standard_normal((23, 3)), 4), (rng(2).standard_normal((3, 2)), 5)],
    hint="dy[k * N // K : (k + 1) * N // K] is chunk k, which may be empty.",
)
def partial_sums(dy, K):
    """A row of sums for each chunk, whose rows are neighbours."""
    N, C = dy.shape
    partial = np.zeros((K, C))
    for k in range(K):
        for n in range(k * N // K, (k + 1) * N // K):
            partial[k] += dy[n]
    return partial


@partial_sums.right
def with_slices(dy, K):
    N = len(dy)
    return np.stack([dy[k * N // K : (k + 1) * N // K].sum(axis=0) for k in range(K)])


@partial_sums.wrong("the rows that N // K leaves over are in no chunk")
def left_over(dy, K):
    size = len(dy) // K
    return np.stack([dy[k * size : (k + 1) * size].sum(axis=0) for k in range(K)])


@partial_sums.wrong("the last chunk has all rows that N // K leaves over: chunk k begins at ⌊kN/K⌋")
def long_last(dy, K):
    size = len(dy) // K
    ends = [*range(size, size * K, size)] if size else [0] * (K - 1)
    return np.stack([part.sum(axis=0) for part in np.split(dy, ends)])


@partial_sums.wrong("the first chunks are the longer ones, as np.array_split has them: ⌊kN/K⌋")
def as_array_split(dy, K):
    return np.stack([part.sum(axis=0) for part in np.array_split(dy, K)])


@partial_sums.wrong("chunk k has every K-th row; here chunks are runs of neighbours")
def strided(dy, K):
    return np.stack([dy[k::K].sum(axis=0) for k in range(K)])


@partial_sums.wrong("these are means, not sums")
def means(dy, K):
    sizes = [max(1, (k + 1) * len(dy) // K - k * len(dy) // K) for k in range(K)]
    return partial_sums(dy, K) / np.array(sizes)[:, None]


@partial_sums.wrong("this is the total, the sum over the chunks: return the partial sums")
def total(dy, K):
    return dy.sum(axis=0)
