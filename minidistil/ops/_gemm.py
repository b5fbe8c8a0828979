"""The engine room: C = A·B in float32, near the speed of the machine, in Python alone.

A core can multiply and add far faster than it can load. One entry of C costs K multiplications and
2·K loads if it is computed alone; a tile of MR × NR entries, held in vector registers, costs
MR·NR·K multiplications and only (MR + NR)·K loads. So the innermost loop adds, step by step along
k, a column of A times a row of B to one tile, and everything else exists to feed it:

      step k                     B panel (kc, NR)
                             ┌────────────────┐
                          k  │ b b b b b b b b│  a row of NR floats: whole vectors
                             └────────────────┘
         A panel (kc, MR)            ×
             ┌──┐            ┌────────────────┐
             │a │            │ += a·b         │
          k  │a │            │   C tile       │  MR rows of NR floats: registers,
             │a │            │                │  written to memory once every KC steps
             └──┘            └────────────────┘

Strided rows waste cache lines and address translations, so both operands are first copied
("packed") into panels which the tile reads from front to back. A panel that sticks out of the
matrix is filled up with zeros, and only the part of its tile that exists is stored.

      packed A: block of KC steps 0 │ panel 0 │ panel 1 │ ... ║ block 1 │ panel 0 │ ...
                                       └ step 0: MR floats, step 1: MR floats, ...
      packed B: the same, with NR floats a step

Sizes, from the registers outwards:

    MR × NR   fills the registers: 6 × 16 is 12 of AVX2's 16 (two more hold a row of B, one an entry
              of A), 12 × 32 is 24 of AVX-512's 32, 12 × 8 is 24 of NEON's 32. NR divides the usual
              widths of a model, so that no tile of a weight is half empty.
    KC        256 steps: a B panel (256 × 16 floats, 16 KB) stays in the first-level cache while the
              A panels pass by. It is the same on every machine and with every split, because it
              decides the order of the sum: an entry is the sum of blocks of KC products.
    MC        rows of A (96 × 256 floats, 96 KB) that stay in the second-level cache while all
              B panels pass by.
    SLAB      what is packed at a time, at most 3072 × 1024 floats (12 MB) of each operand: it lies
              in the shared cache, and memory use does not grow with the operands.

Threads divide the tiles of C, by rows, by columns or both, so that few rows keep two cores as busy
as few columns. No entry is ever summed by two threads: the bits do not depend on their number.
(Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008; BLIS.)
"""

import numpy as np

from minidistil.ops._cpu import get_num_threads, helper, kernel, prange, serial
from minidistil.ops._tile import MR, NR, copy, get, put, tile, transpose

KC = 256
MC = 96 // MR  # counted in panels, like every row and column of tiles below
SLAB_K = 4 * KC
SLAB = 3072  # a multiple of every MR and NR above
SMALL = 32_768  # multiply-adds below which waking another thread costs more than it saves


def matmul(a, b, out=None):
    """a (M,K), b (K,N)  ->  c (M,N), all float32; a and b in any layout, c in C order.

    out: where to write c; float32, C-contiguous, sharing no memory with a or b.
    Raises TypeError for other dtypes and ValueError for shapes that do not fit.
    """
    if a.dtype != np.float32 or b.dtype != np.float32:
        raise TypeError(
            f"the matrix-product kernels compute in float32, not {a.dtype} times {b.dtype}; "
            f'use the "numpy" backend for other dtypes'
        )
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(
            f"a product needs (M,K) times (K,N), not {a.shape} times {b.shape}; "
            f"transpose or reshape one of them"
        )
    M, K, N = *a.shape, b.shape[1]
    if out is None:
        out = np.empty((M, N), np.float32)
    elif out.shape != (M, N) or out.dtype != np.float32 or not out.flags.carray:
        raise ValueError(
            f"out must be a writeable C-contiguous float32 array of shape {(M, N)}, "
            f"not {out.dtype} {out.shape} with strides {out.strides}"
        )
    if K == 0:
        out[:] = 0
    elif M and N:
        workers = 1 if M * N * K < SMALL else get_num_threads()
        lines = min(M, SLAB) + min(N, SLAB) + MR + NR
        packed = np.empty(lines * min(K, SLAB_K) + workers * MR * NR + 16, np.float32)
        job = (_address(a), *a.strides, _address(b), *b.strides, _address(out), M, N, K)
        phases = 2 * -(-M // SLAB) * -(-N // SLAB) * -(-K // SLAB_K)
        if workers == 1:
            _work(0, phases, 0, 1, *job, _address(packed))
        else:
            _together(phases, workers, *job, _address(packed))
    return out


def _address(x):
    """Kernels take addresses and strides, so that one compilation serves every layout."""
    return x.__array_interface__["data"][0]


def blocked(a, b):
    """The same sums in the same order, to step through: a (M,K), b (K,N)  ->  c (M,N).

    The processor multiplies and adds with one rounding; float64 in the middle imitates that.
    """
    (M, K), N = a.shape, b.shape[1]
    c = np.zeros((M, N), np.float32)
    for k0 in range(0, K, KC):
        for j in range(0, N, NR):
            for i in range(0, M, MR):
                a_panel = _padded(a[i : i + MR, k0 : k0 + KC].T, MR)  # (kc,MR)
                b_panel = _padded(b[k0 : k0 + KC, j : j + NR], NR)  # (kc,NR)
                c_tile = np.zeros((MR, NR), np.float32)
                for a_column, b_row in zip(a_panel, b_panel, strict=True):
                    c_tile = np.float32(np.outer(a_column, b_row) + c_tile)
                c[i : i + MR, j : j + NR] += c_tile[: M - i, : N - j]
    return c


def _padded(panel, width):
    """panel (kc,w)  ->  (kc,width) in float64, zeros on the right."""
    return np.pad(panel.astype(np.float64), ((0, 0), (0, width - panel.shape[1])))


# ------------------------------------------------------- Numba: packing, tiles, threads


@helper
def _up(size, width):
    """How many panels of that width hold that size."""
    return (size + width - 1) // width


@helper
def _split(rows, columns, workers):
    """Tiles of a slab  ->  into how many parts to cut its rows: the most loaded worker decides."""
    best, parts = rows * columns + 1, 1
    for p in range(workers, 0, -1):
        load = _up(rows, p) * _up(columns, workers // p)
        if load < best:
            best, parts = load, p
    return parts


@serial
def _pack(at, row, step, lines, depth, width, to, first, last):
    """Panels first..last of a slab: `lines` lines `row` bytes apart, `depth` steps `step` apart.

    `to` is the address of the packed slab. Where lines are neighbours in memory, all panels take a
    few steps before any goes on, so that memory is read in long runs.
    """
    panels = _up(lines, width)
    strip = 16 if row == 4 else KC
    for k0 in range(0, depth, strip):
        block = k0 // KC * KC
        kc, steps = min(KC, depth - block), min(strip, depth - k0)
        for panel in range(first, last):
            source = at + panel * width * row + k0 * step
            panel_to = to + 4 * width * (block * panels + panel * kc + k0 - block)
            filled = min(width, lines - panel * width)
            whole = 0  # steps that vectors take
            if filled == width and row == 4:
                whole = steps
                for k in range(whole):
                    if width == MR:
                        copy(panel_to + 4 * k * MR, source + k * step, MR)
                    else:
                        copy(panel_to + 4 * k * NR, source + k * step, NR)
            elif filled == width and step == 4:
                whole = steps // 4 * 4
                for k in range(0, whole, 4):
                    if width == MR:
                        transpose(panel_to + 4 * k * MR, source + 4 * k, row, MR)
                    else:
                        transpose(panel_to + 4 * k * NR, source + 4 * k, row, NR)
            for k in range(whole, steps):
                for i in range(width):
                    x = get(source + k * step + i * row) if i < filled else np.float32(0)
                    put(panel_to + 4 * (k * width + i), x)


@serial
def _tiles(a, b, c, row, depth, add, rows, columns, i0, i1, j0, j1, spare):
    """The tiles [i0,i1) × [j0,j1) of a slab of C, rows × columns floats at address c.

    Tiles on the far edges go through a spare one, of which what exists is copied.
    """
    for k0 in range(0, depth, KC):
        kc = min(KC, depth - k0)
        more = 1 if add or k0 else 0
        a_block = a + 4 * k0 * _up(rows, MR) * MR
        b_block = b + 4 * k0 * _up(columns, NR) * NR
        for i_block in range(i0, i1, MC):
            for j in range(j0, j1):
                b_panel = b_block + 4 * j * kc * NR
                n = min(NR, columns - j * NR)
                for i in range(i_block, min(i_block + MC, i1)):
                    m = min(MR, rows - i * MR)
                    a_panel, to = a_block + 4 * i * kc * MR, c + i * MR * row + 4 * j * NR
                    inside = m == MR and n == NR
                    tile(kc, a_panel, b_panel, to if inside else spare,
                          row if inside else 4 * NR, more if inside else 0)  # fmt: skip
                    if not inside:
                        for p in range(m):
                            for q in range(n):
                                cell, new = to + p * row + 4 * q, get(spare + 4 * (p * NR + q))
                                put(cell, get(cell) + new if more else new)


@serial
def _work(start, stop, t, workers, a, a_row, a_step, b, b_step, b_row, c, M, N, K, packed):
    """What worker t of `workers` does in the given phases: one packs a slab, the next computes."""
    k_slabs, j_slabs = _up(K, SLAB_K), _up(N, SLAB)
    b_packed = (packed + 63) // 64 * 64  # panels of B begin on a cache line
    for phase in range(start, stop):
        slab = phase // 2
        k0, j0 = slab % k_slabs * SLAB_K, slab // k_slabs % j_slabs * SLAB
        i0 = slab // (k_slabs * j_slabs) * SLAB
        m, n, kc = min(SLAB, M - i0), min(SLAB, N - j0), min(SLAB_K, K - k0)
        I, J = _up(m, MR), _up(n, NR)
        a_packed = b_packed + 4 * J * NR * kc
        if phase % 2 == 0:
            a_from, b_from = a + i0 * a_row + k0 * a_step, b + j0 * b_row + k0 * b_step
            for at, row, step, lines, width, to in (
                (a_from, a_row, a_step, m, MR, a_packed),
                (b_from, b_row, b_step, n, NR, b_packed),
            ):
                panels = _up(lines, width)
                first, last = t * panels // workers, (t + 1) * panels // workers
                _pack(at, row, step, lines, kc, width, to, first, last)
        else:
            p = _split(I, J, workers)
            q = workers // p
            i, j = t // q, t % q
            spare = a_packed + 4 * I * MR * kc + 4 * MR * NR * t
            if i < p:
                _tiles(a_packed, b_packed, c + 4 * (i0 * N + j0), 4 * N, kc, k0, m, n,
                       i * I // p, (i + 1) * I // p, j * J // q, (j + 1) * J // q,
                       spare)  # fmt: skip


@kernel
def _together(phases, workers, a, a_row, a_step, b, b_step, b_row, c, M, N, K, packed):
    """Everyone packs, everyone waits for the last one, everyone computes; slab after slab."""
    for phase in range(phases):
        for t in prange(workers):
            _work(phase, phase + 1, np.int64(t), workers,
                  a, a_row, a_step, b, b_step, b_row, c, M, N, K, packed)  # fmt: skip
