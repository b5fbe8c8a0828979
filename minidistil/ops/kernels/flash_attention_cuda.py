"""Attention in tiles on the device: the algorithm of `flash_attention.py`, one tile row a block.

A block owns OWN rows of one head of one sequence and reads the rows that this sequence has on the
other side, OTHER at a time. The three kernels follow one picture with different operands:

                       others, OTHER at a time ─►              own        others     sums up
                  ┌─────────┬─────────┬─────┐
      own rows    │ s tile  │         │     │     forward     q          k, v       y
      (OWN, D)    │ 4 × 4 a │         │     │     ∂q          q, ∂y      k, v       ∂q = ∂s·k
      in shared   │ thread  │         │     │     ∂k, ∂v      k, v       q, ∂y      ∂k = ∂sᵀ·q
      memory      └─────────┴─────────┴─────┘                                       ∂v = aᵀ·∂y

Thread (i, j) of OWN/4 × 8 computes the scores of own rows i, i + OWN/4, … with others j, j + 8, …
(neighbouring threads read neighbouring rows, whose pitch of D + 4 floats puts them in different
banks), and then four rows of the sum with every eighth four of its channels. In between, the tile
of weights passes through shared memory. The eight threads of a row are neighbours in a warp, so
its maximum and its sum take three shuffles.

    OWN     64 rows forward, 32 backward, where twice as many arrays share 48 KB.
    OTHER   32: eight threads of four.

Each cell of every result has one writer, which sums in a fixed order. ∂q and ∂k, ∂v are two passes
over the scores, because no block has both sums whole. y and `norms`, m and 1/l of each row and
head, are kept for backward. ∂q is divided by l after its sum, a weight of ∂k and ∂v before.
Dropout's mask of a tile is drawn into the memory of the weights, four keys at a time.
Query n of T_q causal ones attends to the first n + 1 + T_k − T_q keys. Tiles without such keys are
skipped.
Sources: those of `flash_attention.py`.
"""

import math
from functools import cache

import numpy as np

from minidistil.ops.kernels.flash_attention import Attention
from minidistil.ops.kernels.flash_attention_tiles import (
    ACROSS,
    OTHER,
    add_products,
    draw,
    my_tile,
    put,
    row_max,
    row_sum,
    rows,
    scores,
    write,
)
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, float32
from minidistil.ops.runtime.dropout_key import DropoutWords

FORWARD_ROWS, BACKWARD_ROWS = 64, 32
WIDEST = 64  # channels of a head
LOWEST = np.float32(-1e30)  # below every score, and finite: differences of infinities are NaN
THREADS = 128
NO_DROPOUT = DropoutWords(*np.zeros(4, np.uint32), np.float32(1))


def forward(inputs: Attention, y, norms) -> None:
    """Fills y (N,C) and, unless it is empty, norms (N,H,2). inputs: arrays of the device; its
    dropout is None where there is none."""
    q, k, v, (bounds, key_bounds, causal), H, dropout = inputs
    C = q.shape[1]
    kernel = forward_kernel(FORWARD_ROWS, *_shape(C // H), _wide(C, H), dropout is not None, causal)
    kernel[_grid(q, bounds, H, FORWARD_ROWS), ACROSS * FORWARD_ROWS // 4](
        q, k, v, bounds, key_bounds, _scale(C, H), *_filled(dropout, bounds), y, norms
    )


def backward(dy, inputs: Attention, y, norms, grads: tuple) -> None:
    """Fills grads: dq (N,C), dk and dv (M,C)."""
    (q, k, v, (bounds, key_bounds, causal), H, dropout), (dq, dk, dv) = inputs, grads
    N, C = q.shape
    D = C // H
    along = device_empty((N, H))
    along_kernel[-(-N * H // THREADS), THREADS](dy, y, along, D)
    threads = ACROSS * BACKWARD_ROWS // 4
    shape = (BACKWARD_ROWS, *_shape(D), _wide(C, H), dropout is not None, causal)
    rest = (norms, along, bounds, key_bounds, _scale(C, H), *_filled(dropout, bounds))
    grid = _grid(q, bounds, H, BACKWARD_ROWS)
    dq_kernel(*shape)[grid, threads](dy, q, k, v, *rest, dq)
    grid = _grid(k, key_bounds, H, BACKWARD_ROWS)
    dkv_kernel(*shape)[grid, threads](dy, q, k, v, *rest, dk, dv)


def _shape(D):
    """The head's channels, and the width to which a tile pads them."""
    if D > WIDEST:
        raise ValueError(
            f"CUDA attention takes heads of at most {WIDEST} channels, not {D}; "
            f'use more heads or the "cpu" backend'
        )
    return D, -(-D // 32) * 32


def _wide(C, H):
    """Whether every head's rows begin at an address that a 128-bit load permits."""
    return C % 4 == 0 and C // H % 4 == 0


def _scale(C, H):
    return np.float32(1 / math.sqrt(C // H))


def _grid(x, bounds, H, own):
    """Enough blocks for any lengths of this number of sequences with this number of rows."""
    return len(x) // own + len(bounds) - 1, H


def _filled(dropout, bounds):
    """Dropout's arguments, which a kernel's signature has even where it does not read them."""
    return (bounds, bounds, NO_DROPOUT) if dropout is None else dropout


# fmt: off
# ------------------------------------------------------- the kernels


@cache
def forward_kernel(OWN, D, WIDTH, wide, dropout, causal):
    """y and norms of OWN queries a block."""
    DOWN, THREADS = OWN // 4, ACROSS * OWN // 4
    OWN_SHARED, OTHER_SHARED = OWN * (WIDTH + 4), OTHER * (WIDTH + 4)
    TILE_SHARED, CHANNELS = OWN * (OTHER + 4), WIDTH // ACROSS

    @cuda_kernel
    def attention_forward(q, k, v, bounds, key_bounds, scale, sequence, column, words, y, norms):
        q_tile = cuda.shared.array(OWN_SHARED, float32)
        k_tile = cuda.shared.array(OTHER_SHARED, float32)
        v_tile = cuda.shared.array(OTHER_SHARED, float32)
        weights = cuda.shared.array(TILE_SHARED, float32)
        s = cuda.local.array((4, 4), float32)
        o = cuda.local.array((4, CHANNELS), float32)
        top = cuda.local.array(4, float32)
        total = cuda.local.array(4, float32)
        first, T_q, q0, key, T_k = my_tile(bounds, key_bounds, OWN)
        if T_q == 0:
            return
        h, i, j = cuda.blockIdx.y, cuda.threadIdx.x // ACROSS, cuda.threadIdx.x % ACROSS
        rows(q, first + q0, T_q - q0, h * D, D, wide, scale, q_tile, OWN, WIDTH, THREADS)
        for p in range(4):
            top[p], total[p] = LOWEST, float32(0)
            for c in range(CHANNELS):
                o[p, c] = float32(0)
        for k0 in range(0, min(T_k, q0 + OWN + T_k - T_q) if causal else T_k, OTHER):
            rows(k, key + k0, T_k - k0, h * D, D, wide, float32(1), k_tile, OTHER, WIDTH, THREADS)
            rows(v, key + k0, T_k - k0, h * D, D, wide, float32(1), v_tile, OTHER, WIDTH, THREADS)
            if dropout:
                draw(sequence, column, words, first + q0, OWN, k0, h, OTHER, OTHER + 4, 1, THREADS,
                     weights)
            cuda.syncthreads()
            scores(q_tile, k_tile, i, j, DOWN, WIDTH, s)
            for p in range(4):
                best = top[p]
                seen = min(T_k, q0 + i + p * DOWN + 1 + T_k - T_q) if causal else T_k
                for r in range(4):
                    if k0 + j + r * ACROSS < seen:
                        best = max(best, s[p, r])
                best = row_max(best)
                shrink = float32(math.exp(top[p] - best))
                top[p] = best
                total[p] *= shrink
                for c in range(CHANNELS):
                    o[p, c] *= shrink
                for r in range(4):
                    e = float32(0)
                    if k0 + j + r * ACROSS < seen:
                        e = float32(math.exp(s[p, r] - best))
                    total[p] += e
                    if dropout:
                        e *= weights[(i + p * DOWN) * (OTHER + 4) + j + r * ACROSS]
                    s[p, r] = e
            put(s, weights, i, j, DOWN)
            cuda.syncthreads()
            add_products(weights, v_tile, i, j, DOWN, WIDTH, o)
            cuda.syncthreads()
        for p in range(4):
            l, n = row_sum(total[p]), i + p * DOWN
            total[p] = float32(1) / l
            if j == 0 and q0 + n < T_q and len(norms) > 0:
                norms[first + q0 + n, h, 0], norms[first + q0 + n, h, 1] = top[p], total[p]
        write(o, total, y, first + q0, T_q - q0, h * D, D, i, j, DOWN, WIDTH)

    return attention_forward


@cuda_kernel
def along_kernel(dy, y, along, D):
    """along (N,H): Σ_channels ∂y⊙y, which equals softmax's Σ_keys ∂a⊙a."""
    at = cuda.grid(1)
    H = along.shape[1]
    if at < along.shape[0] * H:
        n, h, total = at // H, at % H, float32(0)
        for c in range(h * D, h * D + D):
            total += dy[n, c] * y[n, c]
        along[n, h] = total


@cache
def dq_kernel(OWN, D, WIDTH, wide, dropout, causal):
    """∂q of OWN queries a block."""
    DOWN, THREADS = OWN // 4, ACROSS * OWN // 4
    OWN_SHARED, OTHER_SHARED = OWN * (WIDTH + 4), OTHER * (WIDTH + 4)
    TILE_SHARED, CHANNELS = OWN * (OTHER + 4), WIDTH // ACROSS

    @cuda_kernel
    def attention_dq(dy, q, k, v, norms, along, bounds, key_bounds, scale, sequence, column, words,
                     dq):
        q_tile = cuda.shared.array(OWN_SHARED, float32)
        dy_tile = cuda.shared.array(OWN_SHARED, float32)
        k_tile = cuda.shared.array(OTHER_SHARED, float32)
        v_tile = cuda.shared.array(OTHER_SHARED, float32)
        weights = cuda.shared.array(TILE_SHARED, float32)
        s = cuda.local.array((4, 4), float32)
        da = cuda.local.array((4, 4), float32)
        sums = cuda.local.array((4, CHANNELS), float32)
        scales = cuda.local.array(4, float32)
        first, T_q, q0, key, T_k = my_tile(bounds, key_bounds, OWN)
        if T_q == 0:
            return
        h, i, j = cuda.blockIdx.y, cuda.threadIdx.x // ACROSS, cuda.threadIdx.x % ACROSS
        rows(q, first + q0, T_q - q0, h * D, D, wide, scale, q_tile, OWN, WIDTH, THREADS)
        rows(dy, first + q0, T_q - q0, h * D, D, wide, float32(1), dy_tile, OWN, WIDTH, THREADS)
        for p in range(4):
            n = q0 + i + p * DOWN
            scales[p] = scale * norms[first + n, h, 1] if n < T_q else scale
            for c in range(CHANNELS):
                sums[p, c] = float32(0)
        for k0 in range(0, min(T_k, q0 + OWN + T_k - T_q) if causal else T_k, OTHER):
            rows(k, key + k0, T_k - k0, h * D, D, wide, float32(1), k_tile, OTHER, WIDTH, THREADS)
            rows(v, key + k0, T_k - k0, h * D, D, wide, float32(1), v_tile, OTHER, WIDTH, THREADS)
            if dropout:
                draw(sequence, column, words, first + q0, OWN, k0, h, OTHER, OTHER + 4, 1, THREADS,
                     weights)
            cuda.syncthreads()
            scores(q_tile, k_tile, i, j, DOWN, WIDTH, s)
            scores(dy_tile, v_tile, i, j, DOWN, WIDTH, da)
            for p in range(4):
                n = q0 + i + p * DOWN
                seen = min(T_k, n + 1 + T_k - T_q) if causal else T_k
                for r in range(4):
                    ds = float32(0)
                    if n < T_q and k0 + j + r * ACROSS < seen:
                        if dropout:
                            da[p, r] *= weights[(i + p * DOWN) * (OTHER + 4) + j + r * ACROSS]
                        e = float32(math.exp(s[p, r] - norms[first + n, h, 0]))
                        ds = e * (da[p, r] - along[first + n, h])
                    s[p, r] = ds
            put(s, weights, i, j, DOWN)
            cuda.syncthreads()
            add_products(weights, k_tile, i, j, DOWN, WIDTH, sums)
            cuda.syncthreads()
        write(sums, scales, dq, first + q0, T_q - q0, h * D, D, i, j, DOWN, WIDTH)

    return attention_dq


@cache
def dkv_kernel(OWN, D, WIDTH, wide, dropout, causal):
    """∂k and ∂v of OWN keys a block."""
    DOWN, THREADS = OWN // 4, ACROSS * OWN // 4
    OWN_SHARED, OTHER_SHARED = OWN * (WIDTH + 4), OTHER * (WIDTH + 4)
    TILE_SHARED, CHANNELS = OWN * (OTHER + 4), WIDTH // ACROSS

    @cuda_kernel
    def attention_dkv(dy, q, k, v, norms, along, bounds, key_bounds, scale, sequence, column, words,
                      dk, dv):
        k_tile = cuda.shared.array(OWN_SHARED, float32)
        v_tile = cuda.shared.array(OWN_SHARED, float32)
        q_tile = cuda.shared.array(OTHER_SHARED, float32)
        dy_tile = cuda.shared.array(OTHER_SHARED, float32)
        weights = cuda.shared.array(TILE_SHARED, float32)
        ds_tile = cuda.shared.array(TILE_SHARED, float32)
        s = cuda.local.array((4, 4), float32)
        da = cuda.local.array((4, 4), float32)
        dk_sums = cuda.local.array((4, CHANNELS), float32)
        dv_sums = cuda.local.array((4, CHANNELS), float32)
        ones = cuda.local.array(4, float32)
        key, T_k, k0, first, T_q = my_tile(key_bounds, bounds, OWN)
        if T_k == 0:
            return
        h, i, j = cuda.blockIdx.y, cuda.threadIdx.x // ACROSS, cuda.threadIdx.x % ACROSS
        rows(k, key + k0, T_k - k0, h * D, D, wide, float32(1), k_tile, OWN, WIDTH, THREADS)
        rows(v, key + k0, T_k - k0, h * D, D, wide, float32(1), v_tile, OWN, WIDTH, THREADS)
        for p in range(4):
            ones[p] = float32(1)
            for c in range(CHANNELS):
                dk_sums[p, c] = dv_sums[p, c] = float32(0)
        for q0 in range(max(0, k0 + T_q - T_k) // OTHER * OTHER if causal else 0, T_q, OTHER):
            rows(q, first + q0, T_q - q0, h * D, D, wide, scale, q_tile, OTHER, WIDTH, THREADS)
            rows(dy, first + q0, T_q - q0, h * D, D, wide, float32(1), dy_tile, OTHER, WIDTH,
                  THREADS)
            if dropout:
                draw(sequence, column, words, first + q0, OTHER, k0, h, OWN, 1, OTHER + 4, THREADS,
                     weights)
            cuda.syncthreads()
            scores(k_tile, q_tile, i, j, DOWN, WIDTH, s)
            scores(v_tile, dy_tile, i, j, DOWN, WIDTH, da)
            for p in range(4):
                for r in range(4):
                    n, a, ds = q0 + j + r * ACROSS, float32(0), float32(0)
                    seen = min(T_k, n + 1 + T_k - T_q) if causal else T_k
                    if n < T_q and k0 + i + p * DOWN < seen:
                        m = float32(1)
                        if dropout:
                            m = weights[(i + p * DOWN) * (OTHER + 4) + j + r * ACROSS]
                        a = float32(math.exp(s[p, r] - norms[first + n, h, 0]))
                        a *= norms[first + n, h, 1]
                        ds = a * (m * da[p, r] - along[first + n, h])
                        a *= m
                    s[p, r], da[p, r] = a, ds
            put(s, weights, i, j, DOWN)
            put(da, ds_tile, i, j, DOWN)
            cuda.syncthreads()
            add_products(weights, dy_tile, i, j, DOWN, WIDTH, dv_sums)
            add_products(ds_tile, q_tile, i, j, DOWN, WIDTH, dk_sums)
            cuda.syncthreads()
        write(dk_sums, ones, dk, key + k0, T_k - k0, h * D, D, i, j, DOWN, WIDTH)
        write(dv_sums, ones, dv, key + k0, T_k - k0, h * D, D, i, j, DOWN, WIDTH)

    return attention_dkv
