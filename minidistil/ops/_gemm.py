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
              B panels pass by. Whoever computes with them packs them just before.
    SLAB      columns of B (256 × 3072 floats, 3 MB) that stay in the shared cache while all rows
              of A pass by.

Threads divide the tiles of C, by rows, by columns or both, so that few rows keep two cores as busy
as few columns. No entry is ever summed by two threads: the bits do not depend on their number.

A model's weights are the right factor of x·Wᵀ, and do not change between two calls. The panels of
a frozen array (which nobody can write to) are therefore kept, from its second use on and for as
long as the array lives. A training step uses each version of a weight once, and keeps nothing.
(Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008; BLIS.)
"""

import weakref
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from minidistil.ops._cpu import get_num_threads, helper, kernel, prange, serial
from minidistil.ops._memory import empty
from minidistil.ops._tile import MR, NR, copy, get, put, tile, transpose

KC = 256
MC = 96 // MR  # counted in panels, like every row and column of tiles below
SLAB = 3072 // NR
SMALL = 32_768  # multiply-adds below which waking another thread costs more than it saves
PRODUCTS = ("own", "numpy")

_product = ContextVar("product", default="own")
_panels = {}  # {id of a frozen weight: its panels; None after its first use}


@contextmanager
def product(name):
    """`with product("numpy"):` NumPy's BLAS computes the products, "own" are those of this file."""
    if name not in PRODUCTS:
        raise ValueError(f"product must be one of {', '.join(PRODUCTS)}, not {name!r}")
    token = _product.set(name)
    try:
        yield
    finally:
        _product.reset(token)


def matmul(a, b, out=None, *, bias=None, add=False):
    """a (M,K), b (K,N)  ->  c (M,N), all float32; a and b in any layout, c in C order.

    out: where to write c; float32, C-contiguous, sharing no memory with a or b. add: c += a·b
    instead of c = a·b. bias: (N,), added to every row.
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
    if bias is not None and bias.shape != (N,):
        raise ValueError(f"a bias for {N} columns must be {(N,)}, not {bias.shape}")
    if out is None:
        if add:
            raise ValueError("add needs the array to add to; give out")
        out = empty((M, N))
    elif out.shape != (M, N) or out.dtype != np.float32 or not out.flags.carray:
        raise ValueError(
            f"out must be a writeable C-contiguous float32 array of shape {(M, N)}, "
            f"not {out.dtype} {out.shape} with strides {out.strides}"
        )
    if _product.get() == "numpy" or K == 0:
        _by_numpy(a, b, out, bias, add)
    elif M and N:
        _by_tiles(a, b, out, bias, add)
    return out


def _by_numpy(a, b, out, bias, add):
    if add:
        out += a @ b
    else:
        np.matmul(a, b, out=out)
    if bias is not None:
        out += bias


def _by_tiles(a, b, out, bias, add):
    M, K, N = *a.shape, b.shape[1]
    J = -(-N // NR)
    workers = 1 if M * N * K < SMALL else get_num_threads()
    start = np.zeros((J + 1) * NR, np.float32)  # a row for each column of tiles, and zeros
    if bias is not None:
        start[:N] = bias
    weight = _frozen(b)
    kept = _panels.get(id(weight))
    panels = empty(J * NR * K + 16) if kept is None else kept
    scratch = empty(workers * (MC * MR * KC + MR * NR) + 16)
    job = (_address(a), *a.strides, _address(b), *b.strides, _address(panels), kept is None,
           _address(out), _address(start), add, M, N, K, _address(scratch))  # fmt: skip
    if workers == 1:
        _pack_right(0, 1, *job)
        _compute(0, 1, *job)
    else:
        _together(workers, *job)
    if weight is not None and kept is None:
        _remember(weight, panels)


def _frozen(b):
    """The weight W that nobody can write to, where b is its transpose; else None."""
    weight = b.base
    if weight is None or weight.flags.writeable or weight.base is not None:
        return None
    return weight if weight.T.strides == b.strides and weight.T.shape == b.shape else None


def _remember(weight, panels):
    """At the first use, that there was one; at the second, the panels."""
    if id(weight) in _panels:
        _panels[id(weight)] = panels
    else:
        _panels[id(weight)] = None
        weakref.finalize(weight, _panels.pop, id(weight))


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
def _line(address):
    """The next address at which a cache line begins."""
    return (address + 63) // 64 * 64


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
    """Panels first..last of a factor: `lines` lines `row` bytes apart, `depth` steps `step` apart.

    `to` is the address of its panels. Where lines are neighbours in memory, all panels take a
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
def _pack_right(
    t, workers, a, a_row, a_step, b, b_step, b_row, panels, pack, c, start, add, M, N, K, scratch
):
    """Worker t's share of the panels of B, unless they are packed already."""
    if pack:
        J = _up(N, NR)
        _pack(b, b_row, b_step, N, K, NR, _line(panels), t * J // workers, (t + 1) * J // workers)


@serial
def _compute(
    t, workers, a, a_row, a_step, b, b_step, b_row, panels, pack, c, start, add, M, N, K, scratch
):
    """Worker t's tiles of C. Those on the far edges go through a spare one, of which what exists
    is copied."""
    I, J, row = _up(M, MR), _up(N, NR), 4 * N
    p = _split(I, J, workers)
    q = workers // p
    i, j = t // q, t % q
    if i >= p:
        return
    i0, i1, j0, j1 = i * I // p, (i + 1) * I // p, j * J // q, (j + 1) * J // q
    a_packed = _line(scratch) + 4 * t * (MC * MR * KC + MR * NR)
    spare = a_packed + 4 * MC * MR * KC
    for slab in range(j0, j1, SLAB):
        for k0 in range(0, K, KC):
            kc, more = min(KC, K - k0), 1 if add or k0 else 0
            b_block = _line(panels) + 4 * k0 * J * NR
            for block in range(i0, i1, MC):
                end = min(block + MC, i1)
                _pack(a + block * MR * a_row + k0 * a_step, a_row, a_step,
                      min(M, end * MR) - block * MR, kc, MR, a_packed, 0, end - block)  # fmt: skip
                for j in range(slab, min(slab + SLAB, j1)):
                    b_panel, n = b_block + 4 * j * kc * NR, min(NR, N - j * NR)
                    begin = start + 4 * NR * (J if k0 else j)
                    for i in range(block, end):
                        m = min(MR, M - i * MR)
                        a_panel, to = (
                            a_packed + 4 * (i - block) * kc * MR,
                            c + i * MR * row + 4 * j * NR,
                        )
                        if m == MR and n == NR:
                            tile(kc, a_panel, b_panel, to, row, more, begin)
                        else:
                            tile(kc, a_panel, b_panel, spare, 4 * NR, 0, begin)
                            _put_part(spare, to, row, m, n, more)


@serial
def _put_part(spare, to, row, m, n, add):
    """m rows of n floats of the spare tile to where they belong."""
    for p in range(m):
        for q in range(n):
            cell, new = to + p * row + 4 * q, get(spare + 4 * (p * NR + q))
            put(cell, get(cell) + new if add else new)


@kernel
def _together(
    workers, a, a_row, a_step, b, b_step, b_row, panels, pack, c, start, add, M, N, K, scratch
):
    """Everyone packs, everyone waits for the last one, everyone computes."""
    if pack:
        for t in prange(workers):
            _pack_right(np.int64(t), workers, a, a_row, a_step, b, b_step, b_row, panels, pack,
                        c, start, add, M, N, K, scratch)  # fmt: skip
    for t in prange(workers):
        _compute(np.int64(t), workers, a, a_row, a_step, b, b_step, b_row, panels, pack,
                 c, start, add, M, N, K, scratch)  # fmt: skip
