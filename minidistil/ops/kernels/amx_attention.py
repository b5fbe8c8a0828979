"""Attention on AMX tiles: scores and context as products of panels, the softmax between them.

A worker takes a sequence and a head, packs the keys and the values once, and then 32 queries at a
time, a *strip*:

                         keys, 32 at a time ─►
                     ┌────────┬────────┬───────┐
    q  (32,D)  · kᵀ  │ s₀     │ s₁     │   …   │    scores, float32, one row for each query
                     └────────┴────────┴───────┘
                          │      m = max s,  e = exp((s − m)/√D),  l = Σ e,  row by row
                          ▼      e is rounded, or split, as the left factor of the next product
                     ┌────────┬────────┬───────┐
                     │ e₀     │ e₁     │   …   │ ·  v  (T_k,D)   =   o (32,D),    y = o/l
                     └────────┴────────┴───────┘

All scores of a strip are there before its softmax begins, so it needs no running maximum
(`flash_attention.py` does, whose tiles end after 192 keys). A strip takes T_k·(128 + 64·parts)
bytes a worker: 32 KB for 128 keys in bfloat16, within the first-level cache. Memory grows with
T_k, not with its square.

`amx_tile.py` explains the tiles, `amx_panels.py` the panels. Which factor is which:

    product    A, rows          B, columns        channels, summed over
    q·kᵀ       queries          keys              D of the head
    e·v        queries          channels of v     keys

In k the channels of a key are neighbours in memory, so a tile of B is transposed while it is
packed; in v the columns are neighbours, and none is. Keys beyond the last one of a panel are zeros:
m and l leave them out, and their e are 0.

Two of the arithmetics of `amx_matmul.py` serve:

    BF16       q, k, v and e are rounded to bfloat16; m, l, exp and all sums are float32. l sums the
               e before they are rounded.
    HIGHEST    float32: each factor is split into three parts, m, l and exp are as above. Two kinds
               of sequence are left to `flash_attention.py`: those with an entry of 2³² or more,
               infinity or NaN, which cannot be split, and those with fewer than 192 queries or
               keys, where splitting takes the time that the products save.

A head's rows lie C floats apart, which no hardware prefetcher expects. While a strip is computed,
the rows of the next head are fetched.

One entry has one writer, and no sum depends on workers or on other sequences.
"""

import math
from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels import flash_attention
from minidistil.ops.kernels.amx_finish import FACTORS
from minidistil.ops.kernels.amx_matmul import SHAPES, steps_of
from minidistil.ops.kernels.amx_panels import CHANNELS, PARTS, SPARE, Lines, pack
from minidistil.ops.kernels.amx_tile import (
    HIGHEST,
    LANES,
    ROW,
    SIDE,
    TILE,
    Block,
    block,
    configure,
    fetch_line,
    release,
)
from minidistil.ops.kernels.flash_attention import Attention, make_plan, maximum
from minidistil.ops.kernels.packing import up
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import exact, exp, own_code, prange, serial, use_threads
from minidistil.ops.runtime.workspace import aligned

LEAST = 192  # queries and keys from which HIGHEST is faster than `flash_attention.py`

f = np.float32


class StripJob(NamedTuple):
    """Arguments of the kernel. The panels, s, o and spare are scratch memory, a row a worker."""

    kind: int
    q: np.ndarray  # (N,C)
    k: np.ndarray  # (M,C)
    v: np.ndarray  # (M,C)
    order: np.ndarray  # these two are `flash_attention.Plan`
    spans: np.ndarray
    H: int
    pieces: int  # into which the queries of a head are divided
    y: np.ndarray  # (N,C)
    norms: np.ndarray  # (N,H,2) m and 1/l, or empty
    wide: np.ndarray  # (B,) whether a sequence holds a number that cannot be split
    shapes: np.ndarray
    k_panels: np.ndarray  # bytes: 32 keys each
    v_panels: np.ndarray  # bytes: 32 channels each
    q_panel: np.ndarray  # bytes: 32 queries
    e_panel: np.ndarray  # bytes: 32 queries
    s: np.ndarray  # (workers,32,·) scores of a strip, then e
    o: np.ndarray  # (workers,32,·) sums of a strip
    ml: np.ndarray  # (workers,2,32) m and l of a strip
    spare: np.ndarray  # bytes for packing; at their end, a line that nothing reads


def forward(kind: int, inputs: Attention, y: np.ndarray, norms: np.ndarray) -> None:
    """Fills y (N,C) and, unless it is empty, norms (N,H,2): m and 1/l.

    kind: BF16 or HIGHEST. inputs: without dropout.
    """
    bounds, key_bounds, _ = inputs.pattern
    sizes = np.minimum(np.diff(bounds), np.diff(key_bounds))
    by_float32 = sizes < (LEAST if kind == HIGHEST else 0)
    if not by_float32.all():
        by_float32 |= _on_tiles(kind, inputs, ~by_float32, (y, norms))
    if by_float32.any():
        flash_attention.forward(inputs, y, norms, by_float32)


def _on_tiles(kind, inputs, which, out):
    """Fills y and norms for the sequences `which` (B,)  ->  wide (B,): which cannot be split."""
    amx.note("AMX")
    q, k, v, pattern, H, _ = inputs
    (order, spans, longest), workers = make_plan(pattern, q.shape[1], which)
    pieces = -(-4 * workers // (len(order) * H)) if workers > 1 else 1
    wide = np.zeros(len(spans), np.bool_)
    job = StripJob(kind, q, k, v, order, spans, H, pieces, *out, wide, SHAPES,
                   *_scratch(workers, kind, q.shape[1] // H, int(longest)))  # fmt: skip
    run(workers, job)
    return wide


def _scratch(workers, kind, D, longest):
    """Memory for heads of D channels and so many keys: the last eight fields of StripJob."""
    step, panels, across = 2 * TILE * PARTS[kind], -(-longest // SIDE), -(-D // SIDE)
    deep, steps, odd = steps_of(kind, D) * step, steps_of(kind, longest) * step, 2 * panels | 1
    sizes = (panels * deep, across * steps, deep, steps, SIDE * ROW * odd, SIDE * across * 2 * ROW,
             4 * ROW, SPARE + ROW * (max(panels, across) + 1))  # fmt: skip
    k, v, q, e, s, o, ml, spare = (aligned(workers * n).reshape(workers, n) for n in sizes)
    s, o, ml = (x.view(np.float32) for x in (s, o, ml))
    s, o = (x.reshape(workers, SIDE, -1) for x in (s, o))  # odd lines a row: no two in one place
    return k, v, q, e, s, o, ml.reshape(workers, 2, SIDE), spare


@exact(parallel=True)
def run(workers, job):
    """All sequences and heads."""
    before = use_threads(workers)
    for w in prange(workers):
        compute(np.int64(w), workers, job)
    use_threads(before)


@exact()
def compute(w, workers, job):
    """Every `workers`-th part of the work: sequence, head and, of `pieces`, a piece of queries."""
    kind, H, pieces, C = job.kind, job.H, job.pieces, job.q.shape[1]
    D, row = C // H, 4 * C
    k_panels, v_panels = job.k_panels[w].ctypes.data, job.v_panels[w].ctypes.data
    spare, wide = job.spare[w].ctypes.data, np.zeros(job.spare.shape[1] // ROW, np.bool_)
    configure(job.shapes.ctypes.data)
    for item in range(w, len(job.order) * H * pieces, workers):
        b, h, piece = job.order[item // (H * pieces)], item // pieces % H, item % pieces
        first, key, T_q, T_k, ahead = job.spans[b]
        strips = up(T_q, SIDE)
        start, stop = piece * strips // pieces, (piece + 1) * strips // pieces
        if start == stop:
            continue
        needed = min(T_k, min(stop * SIDE, T_q) + ahead)
        at = key * row + 4 * h * D
        keys = Lines(job.k.ctypes.data + at, row, 4, needed, D)
        values = Lines(job.v.ctypes.data + at, 4, row, D, needed)
        panels, across = up(needed, SIDE), up(D, SIDE)
        pack(kind, True, keys, k_panels, wide[:panels], spare)
        job.wide[b] |= wide[:panels].any()
        pack(kind, True, values, v_panels, wide[:across], spare)
        job.wide[b] |= wide[:across].any()
        for strip in range(start, stop):
            _fetch(item + workers, strip - start, stop - start, job)  # while this one computes
            q0, queries = strip * SIDE, min(SIDE, T_q - strip * SIDE)
            _strip(Strip(first + q0, queries, h, min(T_k, q0 + queries + ahead),
                         q0 + 1 + ahead, b, up(needed, CHANNELS[kind])), w, job)  # fmt: skip
    release()


@exact()
def _fetch(item, part, parts, job):
    """Fetches a part of the rows that a later item packs, into the second-level cache."""
    b, h = item // (job.H * job.pieces), item // job.pieces % job.H
    if b < len(job.order):
        first, key, T_q, T_k, _ = job.spans[job.order[b]]
        D = job.q.shape[1] // job.H
        queries, keys = (first, T_q, part, parts), (key, T_k, part, parts)
        _fetch_rows(job.q[:, h * D : h * D + D], queries)
        _fetch_rows(job.k[:, h * D : h * D + D], keys)
        _fetch_rows(job.v[:, h * D : h * D + D], keys)


@exact()
def _fetch_rows(x, rows):
    """rows: the first one, their number, and which part of them."""
    first, T, part, parts = rows
    for n in range(first + T * part // parts, first + T * (part + 1) // parts):
        for c in range(0, x.shape[1], LANES):
            fetch_line(x[n, c:].ctypes.data)


class Strip(NamedTuple):
    """At most 32 queries of a head."""

    n: int  # the row of the first one
    queries: int
    h: int
    keys: int  # that the last one attends to
    seen: int  # that the first one attends to
    b: int
    steps: int  # of a panel of v


@exact()
def _strip(at, w, job):
    """y of a strip, from panels of k and v."""
    kind, C, (n, queries, h, keys) = job.kind, job.q.shape[1], at[:4]
    D, step = C // job.H, 2 * TILE * PARTS[kind]
    deep, steps, back = up(D, CHANNELS[kind]), up(keys, CHANNELS[kind]), f(FACTORS[kind])
    q, e = job.q_panel[w].ctypes.data, job.e_panel[w].ctypes.data
    k_panels, v_panels = job.k_panels[w].ctypes.data, job.v_panels[w].ctypes.data
    s, o, (m, l) = job.s[w], job.o[w], job.ml[w]
    spare, unread = job.spare[w].ctypes.data, job.spare[w, -ROW:].ctypes.data
    wide = np.zeros(1, np.bool_)

    lines = Lines(job.q[n:].ctypes.data + 4 * h * D, 4 * C, 4, queries, D)
    pack(kind, False, lines, q, wide, spare)
    job.wide[at.b] |= wide[0]
    for j in range(up(keys, SIDE)):
        block(Block(kind, queries, deep, q, k_panels + j * deep * step,
                    s[:, SIDE * j :].ctypes.data, s.strides[0], unread))  # fmt: skip
    _softmax(s[:queries], at.seen, keys, back / f(math.sqrt(D)), m, l)
    pack(kind, False, Lines(s.ctypes.data, s.strides[0], 4, queries, keys), e, wide, spare)
    for j in range(up(D, SIDE)):
        block(Block(kind, queries, steps, e, v_panels + j * at.steps * step,
                    o[:, SIDE * j :].ctypes.data, o.strides[0], unread))  # fmt: skip
    for i in range(queries):
        part = f(1) / l[i]
        _scale(o[i, :D], back, part, job.y[n + i, h * D : h * D + D])
        if len(job.norms) > 0:
            job.norms[n + i, h] = m[i] * back, part


@exact()
def _scale(x, back, part, y):
    """y = x·back·part, of one row."""
    own_code()
    for c in range(len(y)):
        y[c] = x[c] * back * part


@serial
def _softmax(s, seen, keys, scale, m, l):
    """Scores s (queries,·)  ->  e in place, m and l (32,).

    Query i attends to the first seen + i of `keys` keys; the others' e are 0. exp runs over whole
    blocks of 32, which leaves no number to a loop without vectors. All maxima come first: exp of
    one row does not wait for the last steps of its maximum.
    """
    own_code()
    for i in range(len(s)):
        row, count = s[i], min(keys, seen + i)
        top = row[0]
        for j in range(count):
            top = maximum(top, row[j])
        m[i] = top
    for i in range(len(s)):
        row, count, top, total = s[i], min(keys, seen + i), m[i], f(0)
        whole = up(count, SIDE) * SIDE
        for j in range(whole):
            row[j] = exp((row[j] - top) * scale)
        for j in range(count, max(whole, keys)):
            row[j] = 0
        for j in range(whole):
            total += row[j]
        l[i] = total
