"""Linear layers in bfloat16 and int8 on AMX, y = x·Wᵀ + b.

    bfloat16   `linear_bf16.py` but for two things: subnormal numbers count as zero, and 32
               channels are summed before they meet the rest, so the sum rounds less often
    int8       `linear_int8.py` to the bit, for its sums are exact

AMX multiplies numbers without a sign by numbers with one: a row of x becomes q − zero as for the
other instructions of that kind (`register_tile_narrow.py`), and zero·Σw is added to the sum.
"""

import numpy as np

from minidistil.ops.kernels.amx_matmul import (
    Panels,
    make_job,
    multiply,
    pack_right,
    steps_of,
    workers_for,
)
from minidistil.ops.kernels.amx_tile import BF16, INT8, ROW, SIDE
from minidistil.ops.kernels.number_formats import quantize
from minidistil.ops.kernels.row_rounding import whole_row
from minidistil.ops.runtime.cpu import exact, prange, use_threads
from minidistil.ops.runtime.workspace import aligned


def pack_bf16_tiles(weight):
    """weight (O,I)  ->  Panels."""
    return pack_right(BF16, weight.T)


def linear_bf16(x, panels, bias, y, form):
    """x (N,I), W packed, bias (O,)  ->  y (N,O), through GELU if `form` says so.

    x may be PackedRows, and y may be, with GELU.
    """
    workers = workers_for(*y.shape, x.shape[1])
    multiply(workers, make_job(BF16, x, panels, y, workers=workers, bias=bias, form=form))


def pack_int8_tiles(weight):
    """weight (O,I)  ->  Panels: a word of 4 channels for each of 16 columns, 16 words in a tile."""
    w, scale = quantize(weight)
    (O, I), steps, J = w.shape, steps_of(INT8, w.shape[1]), -(-len(w) // SIDE)
    beyond = J * SIDE - O
    words = np.pad(w, ((0, beyond), (0, steps * ROW - I))).reshape(J, 2, 16, steps, 16, 4)
    words = np.ascontiguousarray(words.transpose(0, 3, 1, 4, 2, 5))
    tiles = aligned(words.size)
    tiles[:] = words.view(np.uint8).reshape(-1)
    sums = np.pad(w.sum(axis=1, dtype=np.int32), (0, beyond))
    return Panels(tiles, np.zeros(J, np.bool_), np.pad(scale, (0, beyond)), sums)


def linear_int8(x, panels, bias, y, form):
    """The same in int8."""
    (N, I), workers = x.shape, workers_for(*y.shape, x.shape[1])
    q = aligned(N * steps_of(INT8, I) * ROW).reshape(N, -1)
    s, zero = np.empty(N, np.float32), np.empty(N, np.int32)
    _quantize(workers, x, q, s, zero)
    job = make_job(INT8, q, panels, y, workers=workers, bias=bias, form=form, rows=(s, zero))
    multiply(workers, job)


@exact(parallel=True)
def _quantize(workers, x, q, s, zero):
    """x (N,I)  ->  q (N,I′) whole numbers less `zero`, and zeros; their scale s, zero (N,)."""
    before, (N, I) = use_threads(workers), x.shape
    for t in prange(workers):
        for n in range(t * N // workers, (t + 1) * N // workers):
            s[n], zero[n] = whole_row(x[n], q[n, :I], True, 0)
            q[n, I:] = 0
    use_threads(before)
