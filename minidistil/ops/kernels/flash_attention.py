"""Attention in tiles with a running maximum on the CPU, forward and backward.

All scores of a sequence are T_q·T_k numbers a head. Only one tile of them is needed at a time if
the softmax can begin before its row is complete: it keeps the largest score and the sums so far,
and when a larger score comes, it shrinks the sums.

                   keys      KEYS at a time ─►
                ┌──────────┬──────────┬─────┐      s = (q/√D)·kᵀ           one tile
      queries   │ s tile   │          │     │      m' = max(m, s)          e = exp(s − m')
      QUERIES   │          │          │     │      l = l·exp(m−m') + Σ e
      at a time ├──────────┼──────────┼─────┤      o = o·exp(m−m') + e·v   at the end y = o/l
         │      │          │          │     │
         ▼      └──────────┴──────────┴─────┘      kept: y, and `norms` = m and 1/l; no square

Query i of a sequence attends to keys below i + 1 + `ahead`: `ahead` is T_k without a restriction,
and T_k − T_q in causal attention. A tile without such keys is skipped. In a tile on the edge, only
the part is computed that the last query of the block attends to.

Backward computes each tile again: a = exp(s − m)/l needs no running maximum any more. The two
numbers are kept apart because their sum m + log l is rounded to the last digit of a large m, an
error that exp(s − m − log l) would have in all weights of a row. The exp(s − m) are the very
numbers of which l is the sum. The sum in softmax's gradient, Σ_keys ∂a⊙a, equals Σ_channels ∂y⊙y,
and so is known before the tiles.

The products run on a register tile of MR × NR entries like the one of `matmul.py`, in which the
left factor is read where it lies, entry by entry, so that a tile of weights serves as a and as aᵀ.
The right factor is read NR neighbours at a time. Each worker copies the head's rows of a sequence
into its own scratch memory: kᵀ for the scores, plain rows for the sums.

    KEYS      192 columns of a tile: the 16 channels of 192 values that a column of register tiles
              reads (12 KB) stay in the first-level cache while all its queries pass by.
    QUERIES   48 rows of a tile: two tiles of scores (72 KB), the queries and their sums (12 KB
              each) stay in the second-level cache.

Both are multiples of every MR and NR. A worker takes (sequence, head) pairs, the longest sequences
first, dealt out in turn, so that all workers have about the same work. Where pairs are few, forward
divides their queries as well. A pair's ∂k and ∂v are sums over all its queries, so backward leaves
it whole. Each cell has one writer, and no sum depends on the number of workers.
Sources: Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
"FlashAttention", 2022.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from minidistil.ops.kernels.head_copies import copy_rows, copy_transposed, pitch, put_rows, up_to
from minidistil.ops.kernels.packing import SMALL
from minidistil.ops.kernels.philox import philox_words
from minidistil.ops.kernels.register_tile import MR, NR, StridedTile, strided_tile
from minidistil.ops.runtime.cpu import (
    address_of,
    cgutils,
    exp,
    get_num_threads,
    helper,
    intrinsic,
    ir,
    kernel,
    prange,
    serial,
    types,
    use_threads,
)

KEYS, QUERIES = 192, 48
HEAD_SHIFT = 16  # dropout's counter for head h and keys 4j..4j+3 is (h << 16) | j

f = np.float32


class Attention(NamedTuple):
    """The inputs of attention that both directions read."""

    q: np.ndarray  # (N,C)
    k: np.ndarray  # (M,C)
    v: np.ndarray  # (M,C)
    pattern: Any  # bounds, key_bounds, causal: `attention.Pattern`
    n_heads: int
    dropout: Any  # sequence (N,), column (N,) and the key's words; empty arrays disable dropout


def forward(
    inputs: Attention, y: np.ndarray, norms: np.ndarray, which: np.ndarray | None = None
) -> None:
    """Fills y (N,C) and, unless it is empty, norms (N,H,2): m and 1/l.

    which: (B,) whether a sequence is computed; None for all.
    """
    q, k, v, pattern, H, dropout = inputs
    plan, workers = make_plan(pattern, q.shape[1], which)
    pieces = -(-4 * workers // (len(plan.order) * H)) if workers > 1 else 1
    _forward(workers, pieces, ForwardJob(q, k, v, *plan, H, y, norms), dropout)


def backward(
    dy: np.ndarray, inputs: Attention, y: np.ndarray, norms: np.ndarray, grads: tuple
) -> None:
    """Fills grads: dq (N,C), dk and dv (M,C)."""
    q, k, v, pattern, H, dropout = inputs
    plan, workers = make_plan(pattern, q.shape[1])
    _backward(workers, BackwardJob(q, k, v, *plan, H, y, norms, dy, *grads), dropout)


class Plan(NamedTuple):
    """The order of the sequences, those with most work first, and their sizes."""

    order: np.ndarray  # (B,) or fewer
    spans: np.ndarray  # (B,5) first query, first key, T_q, T_k, ahead
    longest: int  # the largest T_k


class ForwardJob(NamedTuple):
    """Arguments of the forward kernel."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    order: np.ndarray  # these three are Plan
    spans: np.ndarray
    longest: int
    H: int
    y: np.ndarray
    norms: np.ndarray


class BackwardJob(NamedTuple):
    """Arguments of the backward kernel: those of forward, and the gradients."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    order: np.ndarray
    spans: np.ndarray
    longest: int
    H: int
    y: np.ndarray
    norms: np.ndarray
    dy: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray


def make_plan(pattern, C, which=None):
    """The Plan of a batch, or of the sequences `which`, and how many workers it is worth."""
    T_q, T_k = np.diff(pattern.bounds), np.diff(pattern.key_bounds)
    ahead = T_k - T_q if pattern.causal else T_k
    spans = np.stack([pattern.bounds[:-1], pattern.key_bounds[:-1], T_q, T_k, ahead], axis=1)
    workers = 1 if (T_q * T_k).sum() * C < SMALL else get_num_threads()
    order = np.argsort(-T_q * T_k, kind="stable")
    order = order if which is None else order[which[order]]
    return Plan(order, spans, T_k[order].max()), workers


# fmt: off
@kernel
def _forward(workers, pieces, job, dropout):
    before = use_threads(workers)
    for w in prange(workers):
        _forward_items(np.int64(w), workers, pieces, job, dropout)
    use_threads(before)


@serial
def _forward_items(w, workers, pieces, job, dropout):
    """Every `workers`-th part of the work: sequence, head and, of `pieces`, a piece of queries."""
    q, k, v, order, spans, longest, H, y, norms = job
    D = q.shape[1] // H
    width, room = pitch(D), up_to(longest, KEYS)
    kt, vh = np.empty(room * D, f), np.empty((room, width), f)
    qh, o = np.empty((QUERIES, width), f), np.empty((QUERIES, width), f)
    s, mask = np.empty((QUERIES, KEYS), f), np.empty(KEYS, f)
    m, l = np.empty(QUERIES, f), np.empty(QUERIES, f)
    scale = f(1 / math.sqrt(D))
    for item in range(w, len(order) * H * pieces, workers):
        b, h, piece = order[item // (H * pieces)], item // pieces % H, item % pieces
        first, key, T_q, T_k, ahead = spans[b]
        blocks = up_to(T_q, QUERIES) // QUERIES
        start, stop = piece * blocks // pieces, (piece + 1) * blocks // pieces
        if start == stop:
            continue
        needed = _end(min(stop * QUERIES, T_q), ahead, T_k)
        copy_transposed(k, key, needed, h * D, D, kt)
        copy_rows(v, key, needed, h * D, D, vh)
        for q0 in range(start * QUERIES, min(stop * QUERIES, T_q), QUERIES):
            queries = min(QUERIES, T_q - q0)
            copy_rows(q, first + q0, queries, h * D, D, qh)
            end = _end(q0 + queries, ahead, T_k)
            for k0 in range(0, end, KEYS):
                keys = min(KEYS, end - k0)
                _product(StridedTile(D, address_of(qh), 4 * width, 4, address_of(kt) + 4 * k0 * D,
                                     4 * NR, address_of(s), 4 * KEYS, 0), 4 * D, queries, keys)
                for i in range(queries):
                    n, seen = first + q0 + i, min(keys, q0 + i + 1 + ahead - k0)
                    top, shrink = _softmax_tile(s[i], seen, keys, scale, m[i], l, i, k0)
                    if k0 > 0:
                        for c in range(D):
                            o[i, c] *= shrink
                    m[i] = top
                    if len(dropout[0]) > 0:
                        _dropout_mask(dropout, n, h, k0, keys, mask)
                        for j in range(keys):
                            s[i, j] *= mask[j]
                rows = address_of(vh) + 4 * k0 * width
                _product(StridedTile(keys, address_of(s), 4 * KEYS, 4, rows, 4 * width,
                                     address_of(o), 4 * width, k0), 4, queries, D)
            for i in range(queries):
                n, part = first + q0 + i, f(1) / l[i]
                for c in range(D):
                    y[n, h * D + c] = o[i, c] * part
                if len(norms) > 0:
                    norms[n, h] = m[i], part


@serial
def _softmax_tile(row, seen, keys, scale, m, l, i, k0):
    """Scores  ->  e^(s − top) in place; returns top, and the factor that shrinks older sums.

    The query attends to the first `seen` of the tile's `keys`, to none if that is below 1.
    """
    top, total = m if k0 > 0 else row[0], f(0)
    for j in range(seen):
        top = maximum(top, row[j])
    for j in range(seen):
        row[j] = exp((row[j] - top) * scale)
    for j in range(max(0, seen), keys):
        row[j] = 0
    for j in range(seen):
        total += row[j]
    shrink = exp((m - top) * scale) if k0 > 0 else f(0)
    l[i] = l[i] * shrink + total if k0 > 0 else total
    return top, shrink


@kernel
def _backward(workers, job, dropout):
    before = use_threads(workers)
    for w in prange(workers):
        _backward_items(np.int64(w), workers, job, dropout)
    use_threads(before)


@serial
def _backward_items(w, workers, job, dropout):
    """Every `workers`-th pair of a sequence and a head."""
    q, k, v, order, spans, longest, H, y, norms, dy, dq, dk, dv = job
    D = q.shape[1] // H
    width, room = pitch(D), up_to(longest, KEYS)
    kt, vt, kh = np.empty(room * D, f), np.empty(room * D, f), np.empty((room, width), f)
    dkh, dvh = np.empty((room, width), f), np.empty((room, width), f)
    qh, dqh, dyh = (np.empty((QUERIES, width), f), np.empty((QUERIES, width), f),
                    np.empty((QUERIES, width), f))
    s, ds, mask = np.empty((QUERIES, KEYS), f), np.empty((QUERIES, KEYS), f), np.ones(KEYS, f)
    along = np.empty(QUERIES, f)
    scale = f(1 / math.sqrt(D))
    for item in range(w, len(order) * H, workers):
        b, h = order[item // H], item % H
        first, key, T_q, T_k, ahead = spans[b]
        copy_transposed(k, key, T_k, h * D, D, kt)
        copy_transposed(v, key, T_k, h * D, D, vt)
        copy_rows(k, key, T_k, h * D, D, kh)
        dkh[:T_k], dvh[:T_k] = 0, 0  # causal: the first queries do not attend to the last keys
        for q0 in range(0, T_q, QUERIES):
            queries = min(QUERIES, T_q - q0)
            copy_rows(q, first + q0, queries, h * D, D, qh)
            copy_rows(dy, first + q0, queries, h * D, D, dyh)
            for i in range(queries):
                total = 0.0
                for c in range(D):
                    total += dyh[i, c] * y[first + q0 + i, h * D + c]
                along[i] = total
            end = _end(q0 + queries, ahead, T_k)
            for k0 in range(0, end, KEYS):
                keys = min(KEYS, end - k0)
                _product(StridedTile(D, address_of(qh), 4 * width, 4, address_of(kt) + 4 * k0 * D,
                                     4 * NR, address_of(s), 4 * KEYS, 0), 4 * D, queries, keys)
                _product(StridedTile(D, address_of(dyh), 4 * width, 4, address_of(vt) + 4 * k0 * D,
                                     4 * NR, address_of(ds), 4 * KEYS, 0), 4 * D, queries, keys)
                for i in range(queries):
                    n = first + q0 + i
                    if len(dropout[0]) > 0:
                        _dropout_mask(dropout, n, h, k0, keys, mask)
                    top, part = norms[n, h]
                    sum_, seen = along[i], min(keys, q0 + i + 1 + ahead - k0)
                    for j in range(seen):
                        a = exp((s[i, j] - top) * scale) * part
                        ds[i, j] = a * (ds[i, j] * mask[j] - sum_)
                        s[i, j] = a * mask[j]
                    for j in range(max(0, seen), keys):
                        s[i, j] = ds[i, j] = 0
                below = 4 * k0 * width
                _product(StridedTile(queries, address_of(s), 4, 4 * KEYS, address_of(dyh),
                                     4 * width, address_of(dvh) + below, 4 * width, 1), 4, keys, D)
                _product(StridedTile(queries, address_of(ds), 4, 4 * KEYS, address_of(qh),
                                     4 * width, address_of(dkh) + below, 4 * width, 1), 4, keys, D)
                _product(StridedTile(keys, address_of(ds), 4 * KEYS, 4, address_of(kh) + below,
                                     4 * width, address_of(dqh), 4 * width, k0), 4, queries, D)
            put_rows(dqh, queries, scale, dq, first + q0, h * D, D)
        put_rows(dkh, T_k, scale, dk, key, h * D, D)
        put_rows(dvh, T_k, f(1), dv, key, h * D, D)


@serial
def _product(first, b_column, rows, columns):
    """C (rows,columns) = or, if add, += A (rows,steps) · B (steps,columns), in whole tiles. `first`
    is the first tile; columns of B are b_column bytes apart."""
    steps, a, a_row, a_step, b, b_step, c, c_row, add = first
    for j in range(0, columns, NR):
        for i in range(0, rows, MR):
            strided_tile(StridedTile(steps, a + i * a_row, a_row, a_step, b + j * b_column, b_step,
                                     c + i * c_row + 4 * j, c_row, add))
# fmt: on


# ------------------------------------------------------- edges, masks, maxima


@helper
def _end(queries, ahead, T_k):
    """The number of keys that the first `queries` queries attend to, up to whole register tiles,
    which is what the sums over queries write."""
    return min(T_k, up_to(queries + ahead, MR))


@serial
def _dropout_mask(dropout, n, h, first, count, m):
    """m[j] = 1/(1−p) or 0 for `count` keys of the query in row n, from key `first` on."""
    sequence, column, key0, key1, site, threshold, keep = dropout
    s, c = np.uint32(sequence[n]), np.uint32(column[n])
    for block in range((count + 3) // 4):
        counter = np.uint32((h << HEAD_SHIFT) | (first // 4 + block))
        w0, w1, w2, w3 = philox_words(site, s, c, counter, key0, key1)
        m[4 * block] = keep if w0 >= threshold else f(0)
        m[4 * block + 1] = keep if w1 >= threshold else f(0)
        m[4 * block + 2] = keep if w2 >= threshold else f(0)
        m[4 * block + 3] = keep if w3 >= threshold else f(0)


@intrinsic
def maximum(typingctx, a, b):
    """The larger number, or NaN. Unlike max(), a loop of it compiles to vector instructions."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 2)
        larger = cgutils.get_or_insert_function(builder.module, kind, "llvm.maximum.f32")
        return builder.call(larger, args)

    return types.float32(types.float32, types.float32), codegen
