"""Embedding: look up one row of a table for each token.

    y[n] = table[ids[n]]

The gradient of a row is the sum over all tokens that use it, and zero if none does:

    ∂table[v] = Σ_{n : ids[n] = v} ∂y[n]

`dtable[ids] += dy` would keep only one of several additions to the same row. Row number
`padding_id` is looked up like any other, but its gradient is zero, as with PyTorch's `padding_idx`.

A table that is also the weight of the vocabulary head has a gradient from there, with an entry in
every row. In the cache as `add_to`, it takes the few rows of this one, and no second table is
filled.
"""

from typing import NamedTuple

import numpy as np

from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import (
    TEAM,
    cuda,
    cuda_kernel,
    device_empty,
    device_zeros,
    float32,
    to_device,
)
from minidistil.ops.runtime.workspace import empty, zeros


class EmbeddingCache(NamedTuple):
    """What backward needs of the forward."""

    ids: np.ndarray  # (N,)
    shape: tuple  # of the table
    padding_id: int | None
    add_to: np.ndarray | None = None  # (V,C), which backward adds to and returns; None: zeros


# ------------------------------------------------------- NumPy: the specification


def forward(table, *, ids, padding_id=None):
    """table (V,C), ids (N,) integers in [0, V)  ->  y (N,C), cache.

    padding_id: a row of the table whose gradient is zero, or None.
    """
    return table[ids], EmbeddingCache(ids, table.shape, padding_id)


def backward(dy, cache):
    """dy (N,C), cache  ->  dtable (V,C)."""
    ids, shape, padding_id, add_to = cache
    dtable = np.zeros(shape, dy.dtype) if add_to is None else add_to
    trained = ids != padding_id if padding_id is not None else slice(None)
    np.add.at(dtable, ids[trained], dy[trained])
    return (dtable,)


# ------------------------------------------------------- Numba: rows across cores

NO_ROW = -1  # in place of padding_id: its sum is not written


def forward_cpu(table, *, ids, padding_id=None):
    y = empty((len(ids), table.shape[1]), table.dtype)
    _gather_rows(table, ids, y)
    return y, EmbeddingCache(ids, table.shape, padding_id)


@kernel
def _gather_rows(table, ids, y):
    for n in prange(len(ids)):
        for c in range(table.shape[1]):
            y[n, c] = table[ids[n], c]


def backward_cpu(dy, cache):
    # Sorting brings the tokens that share a row together, so that each row of the table has one
    # writer, which adds its tokens in their order in the batch on any number of cores.
    ids, shape, padding_id, add_to = cache
    order = np.argsort(ids, kind="stable")
    used, first = np.unique(ids[order], return_index=True)
    if padding_id is not None:
        used = np.where(used == padding_id, NO_ROW, used)
    dtable = zeros(shape, dy.dtype) if add_to is None else add_to
    _scatter_rows(dy, order, used, np.append(first, len(ids)), dtable)
    return (dtable,)


@kernel
def _scatter_rows(dy, order, used, first, dtable):
    C = dy.shape[1]
    for r in prange(len(used)):
        if used[r] != NO_ROW:
            total = np.zeros(C)  # float64: a token type sums over the whole batch
            for i in range(first[r], first[r + 1]):
                for c in range(C):
                    total[c] += dy[order[i], c]
            for c in range(C):
                dtable[used[r], c] += np.float32(total[c])


# ------------------------------------------------------- CUDA: a block for each row

PIECE = 64  # tokens that a block adds up


def forward_cuda(table, *, ids, padding_id=None):
    y = device_empty((len(ids), table.shape[1]))
    if len(ids):
        _gather_kernel[len(ids), TEAM](table, to_device(ids), y)
    return y, EmbeddingCache(ids, table.shape, padding_id)


@cuda_kernel
def _gather_kernel(table, ids, y):
    n = cuda.blockIdx.x
    for c in range(cuda.threadIdx.x, table.shape[1], cuda.blockDim.x):
        y[n, c] = table[ids[n], c]


def backward_cuda(dy, cache):
    # The host, from which the ids come, sorts them. A token type sums over the whole batch, so each
    # row's tokens are divided into pieces; a block sums a piece, then one sums the row's pieces.
    ids, shape, padding_id, add_to = cache
    order = np.argsort(ids, kind="stable")
    used, first, tokens = np.unique(ids[order], return_index=True, return_counts=True)
    pieces = -(-tokens // PIECE)  # of each row
    places = np.arange(pieces.sum())
    start = np.concatenate([[0], np.cumsum(pieces)])  # each row's first piece
    within = places - np.repeat(start[:-1], pieces)
    begins = np.append(np.repeat(first, pieces) + PIECE * within, len(ids))
    dtable = device_zeros(shape) if add_to is None else add_to
    sums = device_zeros((len(places), shape[1]))
    if len(used):
        _add_rows_kernel[len(places), TEAM](dy, *map(to_device, (order, begins, places)), sums)
        if padding_id is not None:
            used = np.where(used == padding_id, NO_ROW, used)
        _add_rows_kernel[len(used), TEAM](sums, *map(to_device, (places, start, used)), dtable)
    return (dtable,)


@cuda_kernel
def _add_rows_kernel(x, order, first, to, y):
    """y[to[r]] += the sum of the rows x[order[first[r]]] to x[order[first[r + 1] - 1]]."""
    r = cuda.blockIdx.x
    if to[r] != NO_ROW:
        for c in range(cuda.threadIdx.x, x.shape[1], cuda.blockDim.x):
            total = float32(0)
            for i in range(first[r], first[r + 1]):
                total += x[order[i], c]
            y[to[r], c] += total
