"""The matrix product on tensor cores: C = A·B in float32 of operands rounded to tf32 or bfloat16.

A warp's instruction multiplies 16 × 8 by 8 × 8 (tf32, 10 bits behind the point) or 16 × 16 by
16 × 8 (bfloat16, 7 bits) and adds in float32. Its operands lie spread over the 32 lanes: lane
(g, t), g of 8 and t of 4, holds of a row of A, and of a column of B, the steps

    k = t, t + 4, t + 8, t + 12     of 16

which are two tf32 instructions (t and t + 4, then the others) or, in pairs, one of bfloat16. The
instruction numbers the steps of a pair differently, which has no effect because A and B agree.
Both formats therefore share everything but one line:

            BK                 memory ──► stage 0 │ stage 1 │ stage 2      asynchronous copies, two
        ┌────────┐                        ▲ being multiplied               steps ahead, that pass by
        │  ▒▒▒▒  │ warp 64 × 32                                            the registers
     BM │  ▒▒▒▒  │               rows along k:   [line][k]  pitch 20    one ldmatrix for 4 values
        │        │               rows across k:  [k][line]  pitch + 8   four plain loads
        └────────┘

Both pitches put the words that a warp reads at once into 32 different banks. Operands are rounded
to nearest between shared memory and the instruction.

    128 × 64  of C a block: four warps of 64 × 32 entries, 64 registers a lane
    BK        16 steps: one row of a pitch-20 tile is four 128-bit copies
    STAGES    3, together 46 KB of the 48 KB of every device

Sources: PTX ISA, "Warp level matrix instructions"; CUTLASS's multistage pipeline.
"""

from functools import cache

from minidistil.ops.kernels.activation import gelu_cuda
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_function, float32, uint32
from minidistil.ops.runtime.ptx import (
    commit_copies,
    copy1_async,
    copy4_async,
    load_matrices,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    to_tf32,
    wait_copies,
)

TILE = BM, BN, BK, THREADS = 128, 64, 16, 128
STAGES = 3


@cache
def tensor_kernel(bf16, transpose_a, transpose_b, wide, add, gelu):
    """The kernel of one format, operand order and epilogue; its arguments are product_kernel's."""
    A_PITCH, A_STAGE = _layout(transpose_a, BM)
    B_PITCH, B_STAGE = _layout(not transpose_b, BN)
    A_SHARED, B_SHARED = STAGES * A_STAGE, STAGES * B_STAGE
    b_across = not transpose_b

    @cuda_kernel
    def tensor_product(a, b, c, into, bias, M, N, K, part, has_bias):
        a_tile = cuda.shared.array(A_SHARED, float32)
        b_tile = cuda.shared.array(B_SHARED, float32)
        sums = cuda.local.array((16, 4), float32)
        x = cuda.local.array((4, 8), uint32)
        y = cuda.local.array((4, 4), uint32)
        warp, lane = cuda.threadIdx.x // 32, cuda.threadIdx.x % 32
        row, column = cuda.blockIdx.y * BM, cuda.blockIdx.x * BN
        m0, n0 = warp // 2 * 64, warp % 2 * 32
        first = cuda.blockIdx.z * part
        end = min(K, first + part)
        for q in range(4):
            for j in range(2):
                n = column + n0 + 8 * q + 2 * (lane % 4) + j
                start = bias[n] if has_bias and n < N else float32(0)
                for p in range(4):
                    sums[4 * p + q, j] = sums[4 * p + q, 2 + j] = start
        for stage in range(STAGES - 1):
            k = first + stage * BK
            _request(a, transpose_a, wide, row, M, k, end, BM, a_tile, stage * A_STAGE, A_PITCH)
            _request(b, b_across, wide, column, N, k, end, BN, b_tile, stage * B_STAGE, B_PITCH)
            commit_copies()
        stage = 0
        for k0 in range(first, end, BK):
            wait_copies(1)
            cuda.syncthreads()
            free = (stage + STAGES - 1) % STAGES
            k = k0 + (STAGES - 1) * BK
            _request(a, transpose_a, wide, row, M, k, end, BM, a_tile, free * A_STAGE, A_PITCH)
            _request(b, b_across, wide, column, N, k, end, BN, b_tile, free * B_STAGE, B_PITCH)
            commit_copies()
            for p in range(4):
                at = stage * A_STAGE
                _steps(a_tile, transpose_a, at, A_PITCH, m0 + 16 * p, lane, bf16, x, p, 0)
                _steps(a_tile, transpose_a, at, A_PITCH, m0 + 16 * p + 8, lane, bf16, x, p, 4)
            for q in range(4):
                _steps(b_tile, b_across, stage * B_STAGE, B_PITCH, n0 + 8 * q, lane, bf16, y, q, 0)
            for p in range(4):
                for q in range(4):
                    s = 4 * p + q
                    d = sums[s, 0], sums[s, 1], sums[s, 2], sums[s, 3]
                    if bf16:
                        d = mma_bf16((x[p, 0], x[p, 4], x[p, 1], x[p, 5]), (y[q, 0], y[q, 1]), d)
                    else:
                        for e in range(0, 4, 2):
                            a4 = x[p, e], x[p, 4 + e], x[p, e + 1], x[p, 5 + e]
                            d = mma_tf32(a4, (y[q, e], y[q, e + 1]), d)
                    sums[s, 0], sums[s, 1], sums[s, 2], sums[s, 3] = d
            stage = (stage + 1) % STAGES
        shift = cuda.blockIdx.z * M
        for s in range(16):
            n = column + n0 + 8 * (s % 4) + 2 * (lane % 4)
            for i in range(2):
                m = row + m0 + 16 * (s // 4) + 8 * i + lane // 4
                for j in range(2):
                    if m < M and n + j < N:
                        v = sums[s, 2 * i + j]
                        c[shift + m, n + j] = v + c[shift + m, n + j] if add else v
        if gelu:  # reads what this thread has just written
            for e in range(64):
                n = column + n0 + 8 * (e // 4 % 4) + 2 * (lane % 4) + e % 2
                m = row + m0 + 16 * (e // 16) + 8 * (e // 2 % 2) + lane // 4
                if m < M and n < N:
                    into[m, n] = gelu_cuda(c[m, n], gelu)

    return tensor_product


def _layout(across, lines):
    """Pitch and size of a stage. across: rows are steps, else lines."""
    pitch, rows = (lines + 8, BK) if across else (BK + 4, lines)
    return pitch, rows * pitch


@device_function
def _request(x, across, wide, line, lines, k0, end, width, tile, to, pitch):
    """Starts the copies of a tile's fours; numbers outside the operand arrive as zeros."""
    for item in range(cuda.threadIdx.x, width * BK // 4, THREADS):
        if across:
            i, j = item // (width // 4), 4 * (item % (width // 4))
            r, c, rows, columns = k0 + i, line + j, end, lines
        else:
            i, j = item // (BK // 4), 4 * (item % (BK // 4))
            r, c, rows, columns = line + i, k0 + j, lines, end
        count = min(4, max(0, columns - c)) if r < rows else 0
        if wide:
            copy4_async(tile, to + i * pitch + j, x, r * x.shape[1] + c if count > 0 else 0, count)
        else:
            for e in range(4):
                some = 1 if e < count else 0
                at = r * x.shape[1] + c + e if some > 0 else 0
                copy1_async(tile, to + i * pitch + j + e, x, at, some)


@device_function
def _steps(tile, across, start, pitch, line, lane, bf16, out, p, e0):
    """Loads steps t, t + 4, … of line g, rounded for the instruction, into out[p, e0:]."""
    if across:
        at = start + lane % 4 * pitch + line + lane // 4
        four = (tile[at], tile[at + 4 * pitch], tile[at + 8 * pitch], tile[at + 12 * pitch])
    else:
        four = load_matrices(tile, start + (line + lane % 8) * pitch + 4 * (lane // 8))
    if bf16:
        out[p, e0], out[p, e0 + 1] = pack_bf16(four[0], four[1]), pack_bf16(four[2], four[3])
    else:
        for e in range(4):
            out[p, e0 + e] = to_tf32(four[e])
