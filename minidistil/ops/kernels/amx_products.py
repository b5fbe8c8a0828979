"""What AMX is asked for: float32 products, and linear layers in bfloat16 and int8.

    product        C = A·B in float32, any layout, forward and backward of a linear layer
    linear_bf16    y = bf16(x)·bf16(W)ᵀ + b, as `linear_bf16.py` says; subnormal numbers are zero
    linear_int8    as `linear_int8.py` says, to the bit: its sums are exact

Bits depend on AMX being used (`runtime/amx.py`), not on threads, layouts or what is kept.
"""

import numpy as np

from minidistil.ops import _panels
from minidistil.ops._cpu import exact, prange, use_threads
from minidistil.ops._formats import quantize
from minidistil.ops._memory import empty, is_frugal
from minidistil.ops._narrow import _whole_row, packed
from minidistil.ops._panels import frozen, remember
from minidistil.ops.kernels.amx_matmul import (
    Panels,
    aligned,
    make_job,
    multiply,
    pack_right,
    steps_of,
    workers_for,
)
from minidistil.ops.kernels.amx_tile import BF16, INT8, ROW, SIDE


def product(kind, a, b, out, bias, add, form, into, by_float32):
    """out (M,N) = or, if add, += a (M,K)·b (K,N) + bias; into = gelu(out), where `form` says so.

    kind: HIGHEST or HIGH. by_float32: a function of a, b, out, bias, add, form, into, which
    computes rows and columns that AMX cannot.
    """
    weight = frozen(b)
    panels = kept = _panels.kept.get((id(weight), kind))
    if kept is None:
        panels = pack_right(kind, b)
        if weight is not None and not is_frugal():
            remember(weight, kind, panels)
    workers = workers_for(*out.shape, len(b))
    job = make_job(kind, a, panels, out, workers=workers, bias=bias, add=add, form=form, g=into)
    multiply(workers, job)
    if job.wide.any() or panels.wide.any():
        wide = (np.repeat(x, SIDE)[:n] for x, n in zip((job.wide, panels.wide), out.shape))
        _redo(a, b, out, bias, add, form, into, by_float32, *wide)


def _redo(a, b, out, bias, add, form, into, by_float32, wide_rows, wide_columns):
    """The rows, and in all others the columns, whose panels were taken for zeros."""
    everything = np.arange(out.shape[1])
    for rows, columns in ((wide_rows, everything), (~wide_rows, np.flatnonzero(wide_columns))):
        rows = np.flatnonzero(rows)
        if len(rows) and len(columns):
            where = np.ix_(rows, columns)
            c = out[where]
            g = c if into is out else empty(c.shape)
            shift = None if bias is None else bias[columns]
            by_float32(a[rows], b[:, columns], c, shift, add, form, g)
            out[where], into[where] = c, g


def linear_bf16(x, weight, bias, form):
    """x (N,I), weight (O,I), bias (O,), all float32  ->  y (N,O), through GELU if `form` says so."""
    panels, y = packed(weight, _pack_bf16), empty((len(x), len(bias)))
    workers = workers_for(*y.shape, x.shape[1])
    multiply(workers, make_job(BF16, x, panels, y, workers=workers, bias=bias, form=form))
    return y


def linear_int8(x, weight, bias, form):
    """The same for int8."""
    panels, y = packed(weight, _pack_int8), empty((len(x), len(bias)))
    (N, I), workers = x.shape, workers_for(*y.shape, x.shape[1])
    q = aligned(N * steps_of(INT8, I) * ROW).reshape(N, -1)
    s, zero = np.empty(N, np.float32), np.empty(N, np.int32)
    _quantize(workers, x, q, s, zero)
    job = make_job(INT8, q, panels, y, workers=workers, bias=bias, form=form, rows=(s, zero))
    multiply(workers, job)
    return y


def _pack_bf16(weight):
    return pack_right(BF16, weight.T)


def _pack_int8(weight):
    """Whole numbers (O,I) -> a word of 4 channels for each of 16 columns, 16 words in a tile."""
    w, scale = quantize(weight)
    (O, I), steps, J = w.shape, steps_of(INT8, w.shape[1]), -(-len(w) // SIDE)
    beyond = J * SIDE - O
    x = np.pad(w, ((0, beyond), (0, steps * 64 - I)))
    x = x.reshape(J, 2, 16, steps, 16, 4).transpose(0, 3, 1, 4, 2, 5)
    tiles = aligned(x.size)
    tiles[:] = np.ascontiguousarray(x).view(np.uint8).reshape(-1)
    sums = np.pad(w.sum(axis=1, dtype=np.int32), (0, beyond))
    return Panels(tiles, np.zeros(J, np.bool_), np.pad(scale, (0, beyond)), sums)


@exact(parallel=True)
def _quantize(workers, x, q, s, zero):
    """x (N,I)  ->  q (N,I′) whole numbers less `zero`, and zeros; their scale s, zero (N,)."""
    before, (N, I) = use_threads(workers), x.shape
    for t in prange(workers):
        for n in range(t * N // workers, (t + 1) * N // workers):
            s[n], zero[n] = _whole_row(x[n], q[n, :I], True, 0)
            q[n, I:] = 0
    use_threads(before)
