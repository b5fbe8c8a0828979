"""Matrix product in float32 on the device: C = A·B, every operand order, any size.

A multiplication reads two numbers, and shared memory delivers far fewer numbers than a
multiprocessor can multiply. Each level of memory therefore feeds a tile that is used many times:

                     N                      a block's tile BM × BN, computed by TY × TX threads
              ┌───────────────┐               ┌───────────────┐
         K    │   B  │░░│     │               │ 4 │     │ 4 │   each thread owns 8 × 8 entries
              └──────┴──┴─────┘               │───┘     └───│   in registers, as four squares of
        K            BN                       │ 4 │     │ 4 │   4 × 4, so that a warp reads
      ┌────┐  ┌───────────────┐               └───────────────┘   neighbours in shared memory
      │  A │  │   C           │
      │░░░░│BM│     ┌──┐      │   step by step along K: BK columns of A and BK rows of B go from
      │    │  │     │▒▒│      │   memory into registers while the previous step is multiplied,
    M │    │  │     └──┘      │   then into the second of two buffers in shared memory
      └────┘  └───────────────┘

Sizes, from the registers outwards:

    8 × 8     entries of a thread: 64 multiply-adds for 16 numbers read, all in 128-bit loads, and
              about 140 of the 255 registers a thread can have.
    BK        8 steps: one 128-bit load of each operand a thread (two where tiles are small).
    BM × BN   128 × 128 (256 threads, 17 KB of shared memory), 64 entries read from memory for
              4,096 multiply-adds; 64 × 64 (64 threads) where the large tiles would be fewer than
              the multiprocessors.
    PITCH     BM + 4: an operand whose rows run along K is transposed while it is stored, and this
              pitch puts a warp's stores into different banks.

If C has too few tiles for the device, K is cut into parts: each part's tile goes to a buffer of its
own, and a second kernel adds the parts in order. The number of parts depends on the shapes alone,
so an entry has the same bits on every device. No sum is atomic.

GELU, if requested, reads the numbers that the thread has just written: the sums have left their
registers, and the cache still holds them.

An operand can be stored transposed (`transpose_a`: A is given as (K,M)), so a linear layer and both
its gradients, x·Wᵀ, ∂y·W and ∂yᵀ·x, read their arrays as they are stored. Edges read zeros.
(Goto and van de Geijn, 2008; NVIDIA, "CUTLASS: efficient GEMM in CUDA", 2017.)
"""

from functools import cache
from typing import NamedTuple

from minidistil.ops.kernels.activation import CODES, gelu_cuda
from minidistil.ops.kernels.matmul_tensor_cores import TILE, tensor_kernel
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, device_function, float32
from minidistil.ops.runtime.matmul_settings import current
from minidistil.ops.runtime.ptx import load4, load4_shared, store4, store4_shared


class Tile(NamedTuple):
    """Rows and columns of C that a block computes, steps that it takes at a time, its threads."""

    rows: int
    columns: int
    steps: int
    threads: int

    def count(self, M: int, N: int) -> int:
        """The number of tiles that cover (M,N)."""
        return -(-M // self.rows) * -(-N // self.columns)


LARGE, SMALL, TENSOR = Tile(128, 128, 8, 256), Tile(64, 64, 8, 64), Tile(*TILE)
BLOCKS = 256  # enough to keep a device busy: about two for each multiprocessor of a large one
PART = 256  # the fewest steps along K of a part
ADDERS = 256  # threads of a block that adds parts


def matmul(a, b, out=None, *, transpose_a=False, transpose_b=False, bias=None, add=False, gelu=None,
           into=None, size=None):  # fmt: skip
    """a (M,K), b (K,N)  ->  c (M,N): float32 device arrays in C order.

    transpose_a: a is given as (K,M). transpose_b: b is given as (N,K). bias: (N,), added to every
    row. out: where to write c. add: c += a·b. gelu: "none" or "tanh", a form of GELU; gelu(c) is
    then written to `into`, an array of c's shape, which may be c itself. size: (M,N,K), if an array
    has more columns than the product uses. Raises ValueError for shapes that do not fit.
    """
    M, N, K = size or _size(a, b, transpose_a, transpose_b)
    precision, gemm = current()
    out = device_empty((M, N)) if out is None else out
    into = out if into is None else into
    if M == 0 or N == 0:
        return out
    rest = bias, add, gelu, into
    if gemm == "cublas":
        _finish(_by_cublas(a, b, transpose_a, transpose_b, (M, N, K)), out, M, N, *rest)
        return out
    tile, parts = plan(M, N, K, precision)
    wide = all(_wide(x) for x in (a, b, out, into))
    part = -(-K // (parts * tile.steps)) * tile.steps  # of K
    grid = (-(-N // tile.columns), -(-M // tile.rows), parts)
    if parts > 1:
        sums = device_empty((parts, M, -(-N // 4) * 4))
        flat = sums.reshape((parts * M, sums.shape[2]))
        kernel = _kernel(precision, tile, transpose_a, transpose_b, wide, False, None)
        kernel[grid, tile.threads](a, b, flat, flat, _nothing(), M, N, K, part, False)
        _finish(sums, out, M, N, *rest)
    else:
        kernel = _kernel(precision, tile, transpose_a, transpose_b, wide, add, gelu)
        shift = _nothing() if bias is None else bias
        kernel[grid, tile.threads](a, b, out, into, shift, M, N, K, part, bias is not None)
    return out


def _size(a, b, transpose_a, transpose_b):
    M, K = a.shape[::-1] if transpose_a else a.shape
    N, steps = b.shape if transpose_b else b.shape[::-1]
    if steps != K:
        raise ValueError(f"a product needs (M,K) times (K,N), not {(M, K)} times {(steps, N)}")
    return M, N, K


def plan(M, N, K, precision="highest"):
    """The tile, and the number of parts of K."""
    tile = LARGE if 2 * LARGE.count(M, N) >= BLOCKS else SMALL
    tile = tile if precision == "highest" else TENSOR
    return tile, max(1, min(BLOCKS // tile.count(M, N), K // PART))


def _wide(x):
    """Whether every row begins at an address that a 128-bit load permits."""
    return x.shape[1] % 4 == 0


def _kernel(precision, tile, transpose_a, transpose_b, wide, add, gelu):
    order = transpose_a, transpose_b, wide, add, CODES[gelu]
    if precision == "highest":
        return product_kernel(tile, *order)
    return tensor_kernel(precision == "medium", *order)


@cache
def _nothing():
    """The argument in place of a missing bias."""
    return device_empty(1)


def _by_cublas(a, b, transpose_a, transpose_b, size):
    """The product by NVIDIA's library  ->  (1,M,N), the one part that `_finish` takes."""
    import cupy

    M, N, K = size
    a, b = (cupy.asarray(x) for x in (a, b))
    a, b = a.T[:M, :K] if transpose_a else a[:M, :K], b.T[:K, :N] if transpose_b else b[:K, :N]
    sums = device_empty((1, M, N))
    cupy.matmul(a, b, out=cupy.asarray(sums)[0])
    return sums


def sum_parts(parts, out=None):
    """parts (P,N)  ->  (N,), added to `out` if it is given."""
    P, N = parts.shape
    total = device_empty(N) if out is None else out
    row = total.reshape((1, N))
    _finish(parts.reshape((P, 1, N)), row, 1, N, None, out is not None, None, row)
    return total


def _finish(sums, out, M, N, bias, add, gelu, into):
    shift = _nothing() if bias is None else bias
    finish_kernel(CODES[gelu])[-(-M * N // ADDERS), ADDERS](
        sums, out, into, shift, M, N, bias is not None, add
    )


@cache
def finish_kernel(gelu):
    """The kernel that adds parts (P,M,·) in order, and bias, C and GELU afterwards."""

    @cuda_kernel
    def finish(sums, c, into, bias, M, N, has_bias, add):
        at = cuda.grid(1)
        if at < M * N:
            m, n = at // N, at % N
            v = bias[n] if has_bias else float32(0)
            for part in range(sums.shape[0]):
                v += sums[part, m, n]
            if add:
                v += c[m, n]
            c[m, n] = v
            if gelu:
                into[m, n] = gelu_cuda(v, gelu)

    return finish


@cache
def product_kernel(tile, transpose_a, transpose_b, wide, add, gelu):
    """The kernel of one tile size, operand order and epilogue."""
    BM, BN, BK, THREADS = tile
    TX = BN // 8
    A_PITCH, B_PITCH = BM + 4, BN + 4
    A_BUFFER, B_BUFFER = BK * A_PITCH, BK * B_PITCH
    A_SHARED, B_SHARED = 2 * A_BUFFER, 2 * B_BUFFER
    A_FOURS, B_FOURS = BM * BK // 4 // THREADS, BN * BK // 4 // THREADS

    @cuda_kernel
    def product(a, b, c, into, bias, M, N, K, part, has_bias):
        a_tile = cuda.shared.array(A_SHARED, float32)
        b_tile = cuda.shared.array(B_SHARED, float32)
        a_next = cuda.local.array((A_FOURS, 4), float32)
        b_next = cuda.local.array((B_FOURS, 4), float32)
        sums = cuda.local.array((8, 8), float32)
        x = cuda.local.array(8, float32)
        y = cuda.local.array(8, float32)
        t = cuda.threadIdx.x
        row, column = cuda.blockIdx.y * BM, cuda.blockIdx.x * BN
        m0, n0 = row + 4 * (t // TX), column + 4 * (t % TX)
        first = cuda.blockIdx.z * part
        end = min(K, first + part)
        for j in range(8):
            n = n0 + j // 4 * (BN // 2) + j % 4
            y[j] = bias[n] if has_bias and n < N else float32(0)
        for i in range(8):
            for j in range(8):
                sums[i, j] = y[j]
        here = 0
        _fetch(a, transpose_a, wide, row, M, first, end, BM, BK, THREADS, A_FOURS, a_next)
        _fetch(b, not transpose_b, wide, column, N, first, end, BN, BK, THREADS, B_FOURS, b_next)
        _put(a_next, transpose_a, a_tile, 0, A_PITCH, BM, BK, THREADS, A_FOURS)
        _put(b_next, not transpose_b, b_tile, 0, B_PITCH, BN, BK, THREADS, B_FOURS)
        cuda.syncthreads()
        for k0 in range(first, end, BK):
            more = k0 + BK < end
            if more:
                k1 = k0 + BK
                _fetch(a, transpose_a, wide, row, M, k1, end, BM, BK, THREADS, A_FOURS, a_next)
                _fetch(
                    b, not transpose_b, wide, column, N, k1, end, BN, BK, THREADS, B_FOURS, b_next
                )
            for k in range(BK):
                for half in range(2):
                    a_at = here * A_BUFFER + k * A_PITCH + half * (BM // 2) + m0 - row
                    b_at = here * B_BUFFER + k * B_PITCH + half * (BN // 2) + n0 - column
                    a4, b4 = load4_shared(a_tile, a_at), load4_shared(b_tile, b_at)
                    for i in range(4):
                        x[4 * half + i], y[4 * half + i] = a4[i], b4[i]
                for i in range(8):
                    for j in range(8):
                        sums[i, j] += x[i] * y[j]
            here = 1 - here
            if more:
                _put(
                    a_next, transpose_a, a_tile, here * A_BUFFER, A_PITCH, BM, BK, THREADS, A_FOURS
                )
                _put(
                    b_next,
                    not transpose_b,
                    b_tile,
                    here * B_BUFFER,
                    B_PITCH,
                    BN,
                    BK,
                    THREADS,
                    B_FOURS,
                )
            cuda.syncthreads()
        shift = cuda.blockIdx.z * M  # each part has rows of its own
        for i in range(8):
            m = m0 + i // 4 * (BM // 2) + i % 4
            if m < M:
                for half in range(2):
                    n = n0 + half * (BN // 2)
                    _store(c, shift + m, n, N, wide, add, sums[i, 4 * half], sums[i, 4 * half + 1],
                           sums[i, 4 * half + 2], sums[i, 4 * half + 3])  # fmt: skip
        if gelu:  # reads what this thread has just written, while the cache holds it
            for e in range(64):
                m, n = m0 + e // 32 * (BM // 2) + e // 8 % 4, n0 + e // 4 % 2 * (BN // 2) + e % 4
                if m < M and n < N:
                    into[m, n] = gelu_cuda(c[m, n], gelu)

    return product


@device_function
def _store(c, m, n, N, wide, add, v0, v1, v2, v3):
    """Stores four neighbours of a row of C, or those within C."""
    if wide:
        if n < N:
            if add:
                old = load4(c, m * c.shape[1] + n)
                v0, v1, v2, v3 = v0 + old[0], v1 + old[1], v2 + old[2], v3 + old[3]
            store4(c, m * c.shape[1] + n, v0, v1, v2, v3)
    else:
        if n < N:
            c[m, n] = v0 + c[m, n] if add else v0
        if n + 1 < N:
            c[m, n + 1] = v1 + c[m, n + 1] if add else v1
        if n + 2 < N:
            c[m, n + 2] = v2 + c[m, n + 2] if add else v2
        if n + 3 < N:
            c[m, n + 3] = v3 + c[m, n + 3] if add else v3


@device_function
def _fetch(x, across, wide, line, lines, k0, end, width, BK, threads, fours, out):
    """Loads this thread's fours of a tile: `width` lines from `line` on, BK steps from k0 on.

    across: lines are columns of x (K,lines), else rows of x (lines,K).
    """
    for i in range(fours):
        q = cuda.threadIdx.x + i * threads
        if across:
            r, c, rows, columns = k0 + q // (width // 4), line + 4 * (q % (width // 4)), end, lines
        else:
            r, c, rows, columns = line + q // (BK // 4), k0 + 4 * (q % (BK // 4)), lines, end
        if wide and r < rows and c + 4 <= columns:
            four = load4(x, r * x.shape[1] + c)
            for j in range(4):
                out[i, j] = four[j]
        else:
            for j in range(4):
                out[i, j] = x[r, c + j] if r < rows and c + j < columns else float32(0)


@device_function
def _put(values, across, tile, start, pitch, width, BK, threads, fours):
    """Stores them to shared memory, step by step: tile[start + k·pitch + line]."""
    for i in range(fours):
        q = cuda.threadIdx.x + i * threads
        if across:
            at = start + q // (width // 4) * pitch + 4 * (q % (width // 4))
            store4_shared(tile, at, values[i, 0], values[i, 1], values[i, 2], values[i, 3])
        else:
            at = start + 4 * (q % (BK // 4)) * pitch + q // (BK // 4)
            for j in range(4):
                tile[at + j * pitch] = values[i, j]
