"""Matrix product in float32 on the CPU: C = A·B, near the peak of the processor, in Python alone.

A core multiplies and adds far faster than it loads. One entry of C costs K multiplications and
2·K loads if it is computed alone. A tile of MR × NR entries, held in vector registers, costs
MR·NR·K multiplications and only (MR + NR)·K loads. The innermost loop therefore adds, step by step
along k, a column of A times a row of B to one tile, and everything else exists to feed it:

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
("packed") into panels, which the tile reads from front to back. A panel that extends beyond the
matrix is filled with zeros, and only the part of its tile inside C is stored.

      packed B: block of KC steps 0 │ panel 0 │ panel 1 │ ... ║ block 1 │ panel 0 │ ...
                                       └ step 0: NR floats, step 1: NR floats (packed A: MR), ...

Sizes, from the registers outwards:

    MR × NR   fills the registers: 6 × 16 is 12 of AVX2's 16 (two more hold a row of B, one an entry
              of A), 12 × 32 is 24 of AVX-512's 32, 12 × 8 is 24 of NEON's 32. NR divides the usual
              widths of a model. The last rows of A take a loop over a third or two thirds of a tile
              if that holds them: 16 rows are 12 + 4.
    KC        256 steps: their part of a B panel (256 × 32 floats, 32 KB) stays in the first-level
              cache while the A panels pass by. The part that is read next is prefetched meanwhile,
              a share by each: a few rows take less time than a weight takes to arrive. KC is
              the same on every machine: each entry adds up sums of KC products.
    MC, DEEP  rows of A and steps (AVX-512: 96 × 1024 floats, 384 KB; others: 96 × KC) that stay in
              the second-level cache while all B panels pass by. One or two A panels take KC steps
              at a time, and stay in the first-level cache.
    SLAB      columns of B (1024 × 1536 floats, 6 MB; KC × 3072, 3 MB) that stay in the shared cache
              while all rows of A pass by.

Threads divide the tiles of C by rows, by columns or both. One thread computes the whole sum of an
entry: threads change no bit. Then a strip of tiles can go through GELU while it is in cache.

A model's weight is the right factor of x·Wᵀ and stays the same between two calls. The panels of a
read-only array are therefore kept, from its second use on and for as long as the array lives. A
training step uses each version of a weight once, and keeps nothing.
(Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008; BLIS.)
"""

from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels import packing
from minidistil.ops.kernels.activation import CODES, NO_GELU, TANH, activate, gelu_erf, gelu_tanh
from minidistil.ops.kernels.amx_products import After
from minidistil.ops.kernels.amx_products import product as amx_product
from minidistil.ops.kernels.amx_tile import BF16, HIGH, HIGHEST
from minidistil.ops.kernels.packing import (
    KC,
    SMALL,
    Factor,
    Tiles,
    frozen,
    line,
    pack,
    put_part,
    remember,
    share_of,
    up,
)
from minidistil.ops.kernels.register_tile import FEW, MR, NR, SOME, PackedTile, tile
from minidistil.ops.runtime import amx, matmul_settings
from minidistil.ops.runtime.cpu import (
    address_of,
    get_num_threads,
    helper,
    kernel,
    own_code,
    prange,
    serial,
    use_threads,
)
from minidistil.ops.runtime.workspace import empty, is_frugal

MC = 96 // MR  # in panels, as rows and columns of tiles are below
DEEP = 4 * KC if NR == 32 else KC  # steps
SLAB = (1536 if DEEP > KC else 3072) // NR
FIRST = 2  # panels of A that the first-level cache holds, with KC steps
STRIP = 8  # tiles side by side, 96 × 128 floats of C, that are activated while a cache holds them
PRODUCTS = ("own", "numpy")
KINDS = {"highest": HIGHEST, "high": HIGH, "medium": BF16}  # of AMX, by precision
LAYOUT = "float32"  # of the panels that are kept

_product = ContextVar("product", default="own")


@contextmanager
def product(name: str):
    """`with product("numpy"):` computes the products with NumPy's BLAS; "own" with this file."""
    if name not in PRODUCTS:
        raise ValueError(f"product must be one of {', '.join(PRODUCTS)}, not {name!r}")
    token = _product.set(name)
    try:
        yield
    finally:
        _product.reset(token)


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    add: bool = False,
    gelu: str | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """a (M,K), b (K,N)  ->  c (M,N), all float32; a and b in any layout, c in C order.

    out: where to write c; float32, C-contiguous, sharing no memory with a or b. add: c += a·b
    instead of c = a·b. bias: (N,), added to every row. gelu: one of activation.FORMS; gelu(c) is
    then written to `into`, an array like out or out itself.
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
    form, into = CODES[gelu], out if into is None else into
    if _product.get() == "numpy" or K == 0:
        _by_numpy(a, b, out, bias, add)
        if gelu is not None:
            activate(out, gelu, into)
    elif M and N and amx.in_use():
        kind = KINDS[matmul_settings.current()[0]]
        amx_product(kind, a, b, out, After(bias, add, form, into), _by_tiles)
    elif M and N:
        _by_tiles(a, b, out, bias, add, form, into)
    return out


def _by_numpy(a, b, out, bias, add):
    if add:
        out += a @ b
    else:
        np.matmul(a, b, out=out)
    if bias is not None:
        out += bias


def _by_tiles(a, b, out, bias, add, form, into):
    amx.note(amx.vectors())
    M, K, N = *a.shape, b.shape[1]
    J = -(-N // NR)
    workers = 1 if M * N * K < SMALL else get_num_threads()
    start = np.zeros((J + 1) * NR, np.float32)  # of each column of tiles its bias; then zeros
    if bias is not None:
        start[:N] = bias
    weight = frozen(b)
    kept = packing.kept.get((id(weight), LAYOUT))
    panels = empty(J * NR * K + 16) if kept is None else kept
    scratch = empty(workers * (MC * MR * DEEP + MR * NR) + 16)
    job = Job(
        _address(a), *a.strides, _address(b), *b.strides, _address(panels), _address(start),
        out, into, add, form, M, N, K, _address(scratch),
    )  # fmt: skip
    _multiply(workers, kept is None, job)
    if weight is not None and kept is None and not is_frugal():
        remember(weight, LAYOUT, panels)


class Job(NamedTuple):
    """Arguments of the kernels. Factors are addresses and strides, in bytes, so that one
    compilation serves every layout. They are no `Factor`s here, because a parallel loop of Numba
    takes no tuple within a tuple."""

    a: int
    a_row: int
    a_step: int
    b: int
    b_step: int
    b_row: int
    panels: int
    start: int
    c: np.ndarray  # (M,N)
    g: np.ndarray  # (M,N), gelu(c)
    add: bool
    form: int
    M: int
    N: int
    K: int
    scratch: int


def _address(x):
    return x.__array_interface__["data"][0]


def blocked(a, b):
    """Reference in NumPy of the same sums in the same order: a (M,K), b (K,N)  ->  c (M,N).

    The processor multiplies and adds with one rounding; the intermediate float64 imitates that.
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


# ------------------------------------------------------- Numba: tiles, threads


@serial
def _pack_right(t, workers, job):
    """Packs worker t's share of the panels of B."""
    J, b = up(job.N, NR), Factor(job.b, job.b_row, job.b_step, job.N, job.K)
    pack(b, NR, line(job.panels), t * J // workers, (t + 1) * J // workers)


@serial
def _compute(t, workers, job):
    """Computes worker t's tiles of C."""
    M, N, K = job.M, job.N, job.K
    J, panels = up(N, NR), line(job.panels)
    i0, i1, j0, j1 = share_of(t, up(M, MR), J, workers)
    a_packed = line(job.scratch) + 4 * t * (MC * MR * DEEP + MR * NR)
    spare = a_packed + 4 * MC * MR * DEEP
    deepest = DEEP if i1 - i0 > FIRST else KC
    for slab in range(j0, j1, SLAB):
        for deep in range(0, K, deepest):
            depth = min(deepest, K - deep)
            for block in range(i0, i1, MC):
                end = min(block + MC, i1)
                rows, corner = min(M, end * MR) - block * MR, job.a + deep * job.a_step
                a = Factor(corner + block * MR * job.a_row, job.a_row, job.a_step, rows, depth)
                pack(a, MR, a_packed, 0, end - block)
                for j in range(slab, min(slab + SLAB, j1)):
                    for k0 in range(deep, deep + depth, KC):
                        done, kc = k0 - deep, min(KC, deep + depth - k0)
                        a_block = a_packed + 4 * done * MR * (end - block)
                        b_panel = panels + 4 * NR * (k0 * J + j * kc)
                        following = panels + 4 * NR * ((k0 + kc) * J + j * kc)
                        if done + kc == depth:
                            following = panels + 4 * NR * (deep * J + (j + 1) * min(KC, depth))
                        start = job.start + 4 * NR * (J if k0 else j)
                        for i in range(block, end):
                            a_panel = a_block + 4 * (i - block) * kc * MR
                            above = (i - block) * MR  # rows that have prefetched their share
                            _one_tile(i, j, job, spare, PackedTile(
                                kc, a_panel, b_panel, 0, 0, 1 if job.add or k0 else 0, start,
                                following + 4 * NR * kc * above // rows,
                                4 * NR * min(MR, rows - above) // rows,
                            ))  # fmt: skip
                    if deep + depth == K:
                        activate_strip(job.c, job.g, job.form, Tiles(block, end, j0, j1), j)


@helper
def _one_tile(i, j, job, spare, at):
    """Computes tile (i,j) of C; if it does not fit, a spare one, of which a part is copied."""
    row, m, n = 4 * job.N, min(MR, job.M - i * MR), min(NR, job.N - j * NR)
    to = address_of(job.c) + i * MR * row + 4 * j * NR
    inside = n == NR and m in (MR, SOME, FEW)
    c, c_row, add = (to, row, at.add) if inside else (spare, 4 * NR, 0)
    here = PackedTile(at.steps, at.a, at.b, c, c_row, add, at.start, at.ahead, at.ahead_step)
    if m <= FEW:
        tile(here, FEW)
    elif m <= SOME:
        tile(here, SOME)
    else:
        tile(here, MR)
    if not inside:
        put_part(spare, to, row, (m, n), at.add)


@serial
def activate_strip(c, g, form, tiles, j):
    """g = gelu(c) in the strip that ends with tile column j, once it is complete; g may be c.

    `tiles` is a block of rows within a worker's columns, whose columns up to j are done.
    """
    i0, i1, j0, j1 = tiles
    done = j + 1 - j0
    if form != NO_GELU and (done % STRIP == 0 or j + 1 == j1):
        left, right = (j0 + (done - 1) // STRIP * STRIP) * NR, min(c.shape[1], (j + 1) * NR)
        _activate(c, g, form, i0 * MR, min(len(c), i1 * MR), left, right)


@serial
def _activate(c, g, form, first, last, left, right):
    own_code()
    line = np.empty(right - left, np.float32)  # c and g may overlap, which would prevent vectors
    for i in range(first, last):
        source, to = c[i, left:right], g[i, left:right]
        if form == TANH:
            for o in range(len(line)):
                line[o] = gelu_tanh(source[o])
        else:
            for o in range(len(line)):
                line[o] = gelu_erf(source[o])
        for o in range(len(line)):
            to[o] = line[o]


@kernel
def _multiply(workers, unpacked, job):
    """All workers pack B; when the last one has finished, all compute."""
    before = use_threads(workers)
    if unpacked:
        for t in prange(workers):
            _pack_right(np.int64(t), workers, job)
    for t in prange(workers):
        _compute(np.int64(t), workers, job)
    use_threads(before)
