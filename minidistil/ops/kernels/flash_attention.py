"""Attention's engine: scores in tiles with a running maximum, forward and backward.

All scores of a sequence are t·t numbers a head, and none is needed but a tile at a time, if the
softmax can begin before its row is complete: keep the largest score and the sums so far, and when
a larger one comes, shrink what has been summed.

                   keys      KEYS at a time ─►
                ┌──────────┬──────────┬─────┐      s = (q/√D)·kᵀ           one tile
      queries   │ s tile   │          │     │      m' = max(m, s)          e = exp(s − m')
      QUERIES   │          │          │     │      l = l·exp(m−m') + Σ e
      at a time ├──────────┼──────────┼─────┤      o = o·exp(m−m') + e·v   at the end y = o/l
         │      │          │          │     │
         ▼      └──────────┴──────────┴─────┘      kept: y, and `norms` = m and 1/l; no square

A query looks `ahead` keys past its own number: u, which is everywhere, or u − t where it must not
look into the future. Tiles that no query of a block sees are skipped, and so is, in the tile on the
edge, all but what the block's last query sees.

Backward makes each tile again: a = exp(s − m)/l needs no running maximum any more. The two numbers
are kept apart because their sum m + log l is rounded to the last digit of a large m, an error that
exp(s − m − log l) would have in all weights of a row. exp(s − m) are the very numbers that l sums.
The sum in softmax's gradient, Σ_keys ∂a⊙a, is Σ_channels ∂y⊙y, and so it is known before the tiles.

The products run on a register tile of MR × NR entries like the one of `matmul.py`, in which the
left factor is read where it lies, entry by entry, so that a tile of weights serves as a and as aᵀ.
The right factor is read NR neighbours at a time: each worker copies the head's rows of a sequence,
kᵀ for the scores and plain rows for the sums, into its own scratch memory.

    KEYS      192 columns of a tile: the 16 channels of 192 values that a column of register tiles
              reads (12 KB) stay in the first-level cache while all its queries pass by.
    QUERIES   48 rows of a tile: two tiles of scores (72 KB), the queries and what is summed for
              them (12 KB each) stay in the second-level cache.

Both are multiples of every MR and NR. A worker takes (sequence, head) pairs, the longest sequences
first, dealt out in turn, so that all have about as much to do; where pairs are few, forward divides
their queries too. A pair's ∂k and ∂v are sums over all its queries, so backward leaves it whole.
Each cell has one writer, and no sum depends on the number of workers.
Sources: Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
"FlashAttention", 2022.
"""

import math

import numpy as np

from minidistil.ops.kernels.philox import philox_words
from minidistil.ops.kernels.register_tile import MR, NR, copy, strided_tile, transpose
from minidistil.ops.runtime.cpu import (
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
SMALL = 32_768  # multiply-adds below which waking another thread costs more than it saves

f = np.float32


def forward(q, k, v, meeting, H, drawn, y, norms):
    """Fill y (N,C) and, unless it is empty, norms (N,H,2): m and 1/l.  drawn: see `_draw`."""
    order, spans, longest, workers = _plan(meeting, q.shape[1])
    pieces = -(-4 * workers // (len(order) * H)) if workers > 1 else 1
    _forward_together(workers, pieces, longest, q, k, v, spans, order, H, drawn, y, norms)


def backward(dy, q, k, v, y, norms, meeting, H, drawn, dq, dk, dv):
    """Fill dq (N,C), dk and dv (M,C)."""
    order, spans, longest, workers = _plan(meeting, q.shape[1])
    _backward_together(workers, longest, dy, q, k, v, y, norms, spans, order, H, drawn, dq, dk, dv)


def _plan(meeting, C):
    """Sequences, those with most to do first; of each its first query, first key, number of
    queries and of keys, and `ahead` (B,5); the most keys; how many workers all that is worth."""
    t, u = np.diff(meeting.bounds), np.diff(meeting.key_bounds)
    ahead = u - t if meeting.causal else u
    spans = np.stack([meeting.bounds[:-1], meeting.key_bounds[:-1], t, u, ahead], axis=1)
    workers = 1 if (t * u).sum() * C < SMALL else get_num_threads()
    return np.argsort(-t * u, kind="stable"), spans, u.max(), workers


# fmt: off
@kernel
def _forward_together(workers, pieces, longest, q, k, v, spans, order, H, drawn, y, norms):
    before = use_threads(workers)
    for w in prange(workers):
        _forward_items(np.int64(w), workers, pieces, longest, q, k, v, spans, order, H, drawn,
                       y, norms)
    use_threads(before)


@serial
def _forward_items(w, workers, pieces, longest, q, k, v, spans, order, H, drawn, y, norms):
    """Every `workers`-th part of the work: sequence, head and, of `pieces`, a piece of queries."""
    D = q.shape[1] // H
    width, room = _pitch(D), _up(longest, KEYS)
    kt, vh = np.empty(room * D, f), np.empty((room, width), f)
    qh, o = np.empty((QUERIES, width), f), np.empty((QUERIES, width), f)
    s, mask = np.empty((QUERIES, KEYS), f), np.empty(KEYS, f)
    m, l = np.empty(QUERIES, f), np.empty(QUERIES, f)
    scale = f(1 / math.sqrt(D))
    for item in range(w, len(order) * H * pieces, workers):
        b, h, piece = order[item // (H * pieces)], item // pieces % H, item % pieces
        first, key, t, u, ahead = spans[b]
        blocks = _up(t, QUERIES) // QUERIES
        start, stop = piece * blocks // pieces, (piece + 1) * blocks // pieces
        if start == stop:
            continue
        needed = _end(min(stop * QUERIES, t), ahead, u)
        _turned(k, key, needed, h * D, D, kt)
        _rows(v, key, needed, h * D, D, vh)
        for q0 in range(start * QUERIES, min(stop * QUERIES, t), QUERIES):
            queries = min(QUERIES, t - q0)
            _rows(q, first + q0, queries, h * D, D, qh)
            end = _end(q0 + queries, ahead, u)
            for k0 in range(0, end, KEYS):
                keys = min(KEYS, end - k0)
                _times(_at(qh), 4 * width, 4, queries, _at(kt) + 4 * k0 * D, 4 * D, 4 * NR, keys,
                       D, _at(s), 4 * KEYS, 0)
                for i in range(queries):
                    n, seen = first + q0 + i, min(keys, q0 + i + 1 + ahead - k0)
                    top, shrink = _weigh(s[i], seen, keys, scale, m[i], l, i, k0)
                    if k0 > 0:
                        for c in range(D):
                            o[i, c] *= shrink
                    m[i] = top
                    if len(drawn[0]) > 0:
                        _draw(drawn, n, h, k0, keys, mask)
                        for j in range(keys):
                            s[i, j] *= mask[j]
                _times(_at(s), 4 * KEYS, 4, queries, _at(vh) + 4 * k0 * width, 4, 4 * width, D,
                       keys, _at(o), 4 * width, k0)
            for i in range(queries):
                n, part = first + q0 + i, f(1) / l[i]
                for c in range(D):
                    y[n, h * D + c] = o[i, c] * part
                if len(norms) > 0:
                    norms[n, h] = m[i], part


@serial
def _weigh(row, seen, keys, scale, m, l, i, k0):
    """Scores  ->  e^(s − top) in place; top, and what older sums are to be multiplied by.

    Of the `keys` of this tile the query sees `seen`, none of them if that is below 1.
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
def _backward_together(workers, longest, dy, q, k, v, y, norms, spans, order, H, drawn, dq, dk, dv):
    before = use_threads(workers)
    for w in prange(workers):
        _backward_items(np.int64(w), workers, longest, dy, q, k, v, y, norms, spans, order, H,
                        drawn, dq, dk, dv)
    use_threads(before)


@serial
def _backward_items(w, workers, longest, dy, q, k, v, y, norms, spans, order, H, drawn, dq, dk, dv):
    """Every `workers`-th pair of a sequence and a head."""
    D = q.shape[1] // H
    width, room = _pitch(D), _up(longest, KEYS)
    kt, vt, kh = np.empty(room * D, f), np.empty(room * D, f), np.empty((room, width), f)
    dkh, dvh = np.empty((room, width), f), np.empty((room, width), f)
    qh, dqh, dyh = (np.empty((QUERIES, width), f), np.empty((QUERIES, width), f),
                    np.empty((QUERIES, width), f))
    s, ds, mask = np.empty((QUERIES, KEYS), f), np.empty((QUERIES, KEYS), f), np.ones(KEYS, f)
    along = np.empty(QUERIES, f)
    scale = f(1 / math.sqrt(D))
    for item in range(w, len(order) * H, workers):
        b, h = order[item // H], item % H
        first, key, t, u, ahead = spans[b]
        _turned(k, key, u, h * D, D, kt)
        _turned(v, key, u, h * D, D, vt)
        _rows(k, key, u, h * D, D, kh)
        dkh[:u], dvh[:u] = 0, 0  # the first queries may not reach the last keys
        for q0 in range(0, t, QUERIES):
            queries = min(QUERIES, t - q0)
            _rows(q, first + q0, queries, h * D, D, qh)
            _rows(dy, first + q0, queries, h * D, D, dyh)
            for i in range(queries):
                total = 0.0
                for c in range(D):
                    total += dyh[i, c] * y[first + q0 + i, h * D + c]
                along[i] = total
            end = _end(q0 + queries, ahead, u)
            for k0 in range(0, end, KEYS):
                keys = min(KEYS, end - k0)
                _times(_at(qh), 4 * width, 4, queries, _at(kt) + 4 * k0 * D, 4 * D, 4 * NR, keys,
                       D, _at(s), 4 * KEYS, 0)
                _times(_at(dyh), 4 * width, 4, queries, _at(vt) + 4 * k0 * D, 4 * D, 4 * NR, keys,
                       D, _at(ds), 4 * KEYS, 0)
                for i in range(queries):
                    n = first + q0 + i
                    if len(drawn[0]) > 0:
                        _draw(drawn, n, h, k0, keys, mask)
                    top, part = norms[n, h]
                    sum_, seen = along[i], min(keys, q0 + i + 1 + ahead - k0)
                    for j in range(seen):
                        a = exp((s[i, j] - top) * scale) * part
                        ds[i, j] = a * (ds[i, j] * mask[j] - sum_)
                        s[i, j] = a * mask[j]
                    for j in range(max(0, seen), keys):
                        s[i, j] = ds[i, j] = 0
                _times(_at(s), 4, 4 * KEYS, keys, _at(dyh), 4, 4 * width, D,
                       queries, _at(dvh) + 4 * k0 * width, 4 * width, 1)
                _times(_at(ds), 4, 4 * KEYS, keys, _at(qh), 4, 4 * width, D,
                       queries, _at(dkh) + 4 * k0 * width, 4 * width, 1)
                _times(_at(ds), 4 * KEYS, 4, queries, _at(kh) + 4 * k0 * width, 4, 4 * width, D,
                       keys, _at(dqh), 4 * width, k0)
            _put(dqh, queries, scale, dq, first + q0, h * D, D)
        _put(dkh, u, scale, dk, key, h * D, D)
        _put(dvh, u, f(1), dv, key, h * D, D)


@serial
def _times(a, a_row, a_step, rows, b, b_column, b_step, columns, steps, c, c_row, add):
    """C (rows, columns) = or, if add, += A (rows, steps) · B (steps, columns), in whole tiles."""
    for j in range(0, columns, NR):
        for i in range(0, rows, MR):
            strided_tile(steps, a + i * a_row, a_row, a_step, b + j * b_column, b_step,
                         c + i * c_row + 4 * j, c_row, add)
# fmt: on


# ------------------------------------------------------- copies, masks, tiles


@helper
def _at(x):
    """Tiles take addresses, which count bytes."""
    return np.int64(x.ctypes.data)


@helper
def _up(size, width):
    """The next multiple of `width`."""
    return (size + width - 1) // width * width


@helper
def _end(queries, ahead, u):
    """How many keys so many queries see, in whole tiles: what sums over queries writes no other."""
    return min(u, _up(queries + ahead, MR))


@helper
def _pitch(D):
    """Floats from one copied row to the next: an odd number of cache lines.

    Rows of 256 bytes would all fall into a quarter of the first-level cache.
    """
    return 16 * (_up(D, NR) // 16 | 1)


@serial
def _rows(x, first, count, c0, D, out):
    """out[:count] = D channels of x from row `first` and channel c0 on."""
    row, start = x.strides[0], _at(x) + first * x.strides[0] + 4 * c0
    whole = D // NR * NR
    for i in range(count):
        for c in range(0, whole, NR):
            copy(_at(out) + i * out.strides[0] + 4 * c, start + i * row + 4 * c, NR)
        for c in range(whole, D):
            out[i, c] = x[first + i, c0 + c]


@serial
def _put(block, count, scale, x, first, c0, D):
    """The way back, times scale."""
    for i in range(count):
        for c in range(D):
            x[first + i, c0 + c] = block[i, c] * scale


@serial
def _turned(x, first, count, c0, D, out):
    """The same rows as columns, in panels (D,NR) one after another; zeros fill the last one."""
    row, start = x.strides[0], _at(x) + first * x.strides[0] + 4 * c0
    for j in range(0, count, NR):
        whole = D // 4 * 4 if j + NR <= count else 0
        for c in range(0, whole, 4):
            transpose(_at(out) + 4 * (j * D + NR * c), start + j * row + 4 * c, row, NR)
        for i in range(NR):
            for c in range(whole, D):
                out[j * D + NR * c + i] = x[first + j + i, c0 + c] if j + i < count else f(0)


@serial
def _draw(drawn, n, h, first, count, m):
    """m[j] = 1/(1−p) or 0 for `count` keys of the query in row n, from key `first` on."""
    sequence, column, key0, key1, site, threshold, keep = drawn
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
    """The larger one, or NaN. Unlike max(), a loop of them becomes vector instructions."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 2)
        larger = cgutils.get_or_insert_function(builder.module, kind, "llvm.maximum.f32")
        return builder.call(larger, args)

    return types.float32(types.float32, types.float32), codegen
