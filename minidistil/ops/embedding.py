"""Embedding: look up one row of a table for each token.

    y[n] = table[ids[n]]

A row that several tokens share receives the sum of their gradients; the others receive zero:

    ∂table[v] = Σ_{n : ids[n] = v} ∂y[n]

`dtable[ids] += dy` would lose all but one of the repeats. With `padding_id`, that row is looked up
but never trained, as with PyTorch's `padding_idx`.
"""

import numpy as np

from minidistil.ops._cpu import kernel, prange
from minidistil.ops._memory import empty, zeros

# ------------------------------------------------------- NumPy: the specification


def forward(table, *, ids, padding_id=None):
    """table (V,C), ids (N,) integers in [0, V)  ->  y (N,C), cache."""
    return table[ids], (ids, table.shape, padding_id)


def backward(dy, cache):
    """dy (N,C), cache  ->  dtable (V,C)."""
    ids, shape, padding_id = cache
    dtable = np.zeros(shape, dy.dtype)
    np.add.at(dtable, ids, dy)
    if padding_id is not None:
        dtable[padding_id] = 0
    return (dtable,)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(table, *, ids, padding_id=None):
    y = empty((len(ids), table.shape[1]), table.dtype)
    _gather_rows(table, ids, y)
    return y, (ids, table.shape, padding_id)


@kernel
def _gather_rows(table, ids, y):
    for n in prange(len(ids)):
        for c in range(table.shape[1]):
            y[n, c] = table[ids[n], c]


def backward_cpu(dy, cache):
    # Sorting brings the tokens that share a row together: one writer for each row of the table,
    # which adds its tokens in their order in the batch, on any number of cores.
    ids, shape, padding_id = cache
    order = np.argsort(ids, kind="stable")
    used, first = np.unique(ids[order], return_index=True)
    dtable = zeros(shape, dy.dtype)
    _scatter_rows(dy, order, used, np.append(first, len(ids)), dtable)
    if padding_id is not None:
        dtable[padding_id] = 0
    return (dtable,)


@kernel
def _scatter_rows(dy, order, used, first, dtable):
    C = dy.shape[1]
    for r in prange(len(used)):
        total = np.zeros(C)  # float64: a token type or a first position sums over a whole batch
        for i in range(first[r], first[r + 1]):
            for c in range(C):
                total[c] += dy[order[i], c]
        for c in range(C):
            dtable[used[r], c] = total[c]
