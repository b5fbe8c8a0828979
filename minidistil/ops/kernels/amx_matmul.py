"""Matrix products on AMX: C = A·B with float32 in and out, in one of four arithmetics.

    HIGHEST   float32: three bfloat16 parts of each number, six products (`amx_tile.py`)
    HIGH      two parts, three products: 16 of float32's 24 bits
    BF16      both factors rounded to bfloat16
    INT8      whole numbers with a scale for each row of A and each column of B; exact sums

The loops around a block of 32 × 32 entries, from the outside in:

    workers     divide the blocks of C, by rows, by columns or both; no entry has two of them
    NEAR        rows of A whose panels fit into half of the second-level cache (640 KB). A worker
                packs them just before it multiplies them with all of its columns.
    DEEPEST     steps of a sum that begins at zero: 24, which are 768 channels. What a block of C
                gets from one such sum is added in float32, so rounding errors do not grow with K.
                BF16 and INT8 take all channels at once.
    columns     a panel of B passes from memory to the first-level cache once for these rows,
    rows        and meets every panel of A.

The order of all sums depends on K alone: neither threads nor the number of rows change a bit.

A block arrives as sums in 4 KB of scratch memory. A few of its rows after each step of the next
block, it is scaled, added to what C holds or to the bias, sent through GELU if that is asked for,
and stored (`amx_finish.py`), while the tile unit works. If only a BF16 product reads gelu(C), it is
stored as a panel of that product's A (`amx_rows.py`). If several panels of A meet a panel of B, the
next one is fetched meanwhile.

With an entry of 2³² or more, infinity or NaN, HIGHEST and HIGH cannot split a number. Its panel
(32 rows of A, 32 columns of B) counts as zeros here, and `wide_rows`, `wide_columns` say what the
float32 kernel has to compute.
"""

from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels.activation import NO_GELU
from minidistil.ops.kernels.amx_finish import Destination, Sums, expect_rows, finish_rows
from minidistil.ops.kernels.amx_panels import CHANNELS, PARTS, SPARE, Lines, pack
from minidistil.ops.kernels.amx_rows import PackedRows
from minidistil.ops.kernels.amx_tile import (
    FORMATS,
    ROW,
    SIDE,
    TILE,
    PassSteps,
    advance,
    clear,
    configure,
    fetch_lines,
    release,
    store,
)
from minidistil.ops.kernels.packing import SMALL, split, up
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import (
    address_of,
    exact,
    get_num_threads,
    prange,
    use_threads,
)
from minidistil.ops.runtime.workspace import aligned

NEAR = 640 << 10
DEEPEST = (1 << 30, 1 << 30, 24, 24)
PORTION = (2, 2, 1, 1)  # steps, after which some rows of the block before are finished

BLOCK = 4 * SIDE * SIDE  # bytes of sums
PASSES = tuple(len(form.passes) for form in FORMATS)

SHAPES = np.zeros(ROW, np.uint8)  # of the registers, as `ldtilecfg` reads them
SHAPES[0] = 1  # the palette: eight registers of 1 KB
SHAPES[16:32:2] = ROW  # bytes in a row of each
SHAPES[48:56] = 16  # rows of each


class Panels(NamedTuple):
    """B, packed."""

    tiles: np.ndarray  # bytes
    wide: np.ndarray  # (⌈N/32⌉,) whether a panel counts as zeros
    scale: np.ndarray  # INT8: of each column, up to a multiple of 32; else empty
    sums: np.ndarray  # INT8: of each column's whole numbers; else empty


class AmxJob(NamedTuple):
    """A product as the kernels see it. Addresses and strides are in bytes."""

    kind: int
    a: int
    a_packed: bool  # whether `a` is the address of panels
    a_row: int
    a_step: int
    tiles: np.ndarray  # these four are Panels
    wide_right: np.ndarray
    scale: np.ndarray
    sums: np.ndarray
    start: np.ndarray  # (32·⌈N/32⌉ + 32,) the bias, then zeros
    c: np.ndarray  # (M,N)
    g: np.ndarray  # (M,N) gelu(c)
    g_panels: int  # address of panels that take gelu(c) instead, or 0
    add: bool
    form: int
    M: int
    N: int
    K: int
    s: np.ndarray  # INT8: (M,) scale of a row of A
    zero: np.ndarray  # INT8: (M,) what was subtracted from its whole numbers
    wide: np.ndarray  # (⌈M/32⌉,) whether a panel of A counts as zeros
    shapes: np.ndarray
    near: np.ndarray  # (workers, bytes) panels of A
    blocks: np.ndarray  # (workers, 3, 32, 32) sums of two blocks of C, and what C holds at an edge
    spare: np.ndarray  # (workers, bytes) for packing; at its end, a line that nothing reads


def steps_of(kind, depth):
    """Steps of a panel for that many channels."""
    return -(-depth // CHANNELS[kind])


def near_panels(kind, depth, M):
    """Panels of A that are packed at a time."""
    steps = min(steps_of(kind, depth), DEEPEST[kind])
    return min(-(-M // SIDE), max(1, NEAR // (steps * 2 * TILE * PARTS[kind])))


def pack_right(kind, b):
    """b (K,N) float32, in any layout  ->  Panels."""
    K, N = b.shape
    J, nothing = -(-N // SIDE), np.zeros(0, np.float32)
    panel = steps_of(kind, K) * 2 * TILE * PARTS[kind]
    tiles, wide = aligned(J * panel), np.empty(J, np.bool_)
    workers = get_num_threads() if K * N > SMALL else 1
    spare = aligned(workers * (SPARE + J * ROW)).reshape(workers, -1)
    step, row = b.strides
    lines = Lines(b.__array_interface__["data"][0], row, step, N, K)
    _pack_right(kind, lines, tiles.reshape(J, panel), wide, spare)
    return Panels(tiles, wide, nothing, nothing.view(np.int32))


def make_job(kind, a, panels, c, *, workers, bias=None, add=False, form=NO_GELU, g=None,
             rows=None):  # fmt: skip
    """The job c (M,N) = a (M,K)·B + bias; a may have any layout.

    For BF16, a may be PackedRows, and so may c, which then takes gelu(a·B + bias) alone.
    rows: for INT8, (s, zero) of a, which is then uint8, its channels padded to a multiple of 64.
    """
    amx.note("AMX")
    (M, N), K = c.shape, a.shape[1]
    J = -(-N // SIDE)
    start = np.zeros((J + 1) * SIDE, np.float32)
    if bias is not None:
        start[:N] = bias
    s, zero = rows or (np.zeros(0, np.float32), np.zeros(0, np.int32))
    packed, panels_to = isinstance(a, PackedRows), 0
    strides = (0, 0) if packed else a.strides
    if isinstance(c, PackedRows):
        c, panels_to = np.zeros((0, 0), np.float32), _address(c)
    count = 0 if packed else near_panels(kind, K, M)
    sizes = count * steps_of(kind, K) * 2 * TILE * PARTS[kind], SPARE + (count + 1) * ROW
    near, spare = (aligned(workers * n).reshape(workers, n) for n in sizes)
    blocks = aligned(workers * 12 * SIDE * SIDE).view(np.float32).reshape(workers, 3, SIDE, SIDE)
    return AmxJob(
        kind, _address(a), packed, *strides, *panels, start, c, c if g is None else g, panels_to,
        add, form, M, N, K, s, zero, np.zeros(-(-M // SIDE), np.bool_), SHAPES, near, blocks, spare,
    )  # fmt: skip


def _address(x):
    """Where an array, or PackedRows, begins."""
    return getattr(x, "panels", x).__array_interface__["data"][0]


def workers_for(M, N, K):
    """Threads that a product of this size is worth."""
    return 1 if M * N * K < SMALL else get_num_threads()


@exact(parallel=True)
def _pack_right(kind, lines, tiles, wide, spare):
    """All panels of B."""
    workers, J = len(spare), len(tiles)
    before = use_threads(workers)
    for t in prange(workers):
        first, last = t * J // workers, (t + 1) * J // workers
        own = Lines(lines.at + first * SIDE * lines.row, lines.row, lines.step,
                    lines.count - first * SIDE, lines.depth)  # fmt: skip
        pack(kind, True, own, tiles[first:].ctypes.data, wide[first:last], spare[t].ctypes.data)
    use_threads(before)


@exact(parallel=True)
def multiply(workers, job):
    """All blocks of C."""
    before = use_threads(workers)
    for t in prange(workers):
        compute(np.int64(t), workers, job)
    use_threads(before)


@exact()
def compute(t, workers, job):
    """Worker t's blocks of C."""
    kind, I, J = job.kind, up(job.M, SIDE), up(job.N, SIDE)
    p = split(I, J, workers)
    q = workers // p
    if t >= p * q:
        return
    i0, i1 = t // q * I // p, (t // q + 1) * I // p
    j0, j1 = t % q * J // q, (t % q + 1) * J // q
    steps, step = up(job.K, CHANNELS[kind]), 2 * TILE * PARTS[kind]
    deepest = min(steps, DEEPEST[kind])
    near = max(1, NEAR // (deepest * step))
    b_packed, blocks = address_of(job.tiles), address_of(job.blocks[t])
    spare, unread = address_of(job.spare[t]), address_of(job.spare[t, -ROW:])
    place = Destination(
        kind, job.M, job.N, address_of(job.c), address_of(job.g), job.g_panels, job.add, job.form,
        address_of(job.start), address_of(job.s), address_of(job.zero), address_of(job.scale),
        address_of(job.sums), blocks + 2 * BLOCK, spare,
    )  # fmt: skip
    waiting, waits, turn = Sums(i0, j0, blocks, False, False), False, 0
    configure(address_of(job.shapes))
    for first in range(i0, i1, near):
        last = min(first + near, i1)
        a_packed = job.a + first * steps * step
        if not job.a_packed:
            a_packed = address_of(job.near[t])
            rows = Lines(job.a + first * SIDE * job.a_row, job.a_row, job.a_step,
                         job.M - first * SIDE, job.K)  # fmt: skip
            pack(kind, False, rows, a_packed, job.wide[first:last], spare)
        for k in range(0, steps, deepest):
            kc = min(deepest, steps - k)
            parts = up(kc, PORTION[kind])
            each = up(SIDE, parts)
            lines = up(kc * step, (last - first) * parts * ROW) if last - first > 1 else 0
            for j in range(j0, j1):
                b_panel = b_packed + (j * steps + k) * step
                ahead = b_panel + steps * step
                if j + 1 == j1:
                    ahead = b_packed + (j0 * steps + (k + kc) % steps) * step
                for i in range(first, last):
                    a_panel = a_packed + ((i - first) * steps + k) * step
                    m = min(SIDE, job.M - i * SIDE)
                    here = Sums(i, j, blocks + turn * BLOCK, k > 0, k + kc == steps)
                    clear()
                    for part in range(parts):
                        done = part * PORTION[kind]
                        some = min(PORTION[kind], kc - done)
                        advance(PassSteps(kind, m, 0, some, done, a_panel + done * step,
                                     b_panel + done * step, unread))  # fmt: skip
                        if lines:
                            fetch_lines(lines, ahead)
                            ahead += lines * ROW
                        expect_rows(here, part * each, each, place)
                        if waits:
                            finish_rows(waiting, part * each, each, place)
                    if PASSES[kind] > 1:
                        advance(PassSteps(kind, m, 1, kc, 0, a_panel, b_panel, unread))
                    store(m, here.at, 4 * SIDE)
                    waiting, waits, turn = here, True, 1 - turn
    release()
    if waits:
        finish_rows(waiting, 0, SIDE, place)
