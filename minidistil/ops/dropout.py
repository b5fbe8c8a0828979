"""Dropout: zero each value with probability p, scale the others so that the mean stays.

    y = x⊙m/(1−p)     m ∈ {0,1},  P(m = 1) = 1−p          ∂x = ∂y⊙m/(1−p)

m is not drawn from a generator with state: it is a pure function of where the value stands. Philox,
a small block cipher, turns a counter into four random 32-bit words under a key:

    key      seed, step                           one training step of one run
    counter  site, sequence, column, channel/4    which dropout, which token, which four channels

So backward computes m again instead of storing it, and neither packing nor splitting a batch, nor
another backend, changes a draw.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (Philox4x32-10).
"""

import numpy as np

from minidistil.ops.runtime.cpu import helper, kernel, prange
from minidistil.ops.runtime.cuda import (
    cuda,
    cuda_kernel,
    device_empty,
    device_function,
    float32,
    to_device,
    uint64,
)
from minidistil.ops.runtime.dropout_key import words_of
from minidistil.ops.runtime.workspace import empty_like

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers of the two lanes
W0, W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)  # the key grows by these each round
ROUNDS = 10
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


# ------------------------------------------------------- NumPy: the specification


def forward(x, *, key):
    """x (N,C), draw  ->  y (N,C), cache."""
    return x * mask(key, x.shape[1]).astype(x.dtype), key


def backward(dy, cache):
    """dy (N,C), cache  ->  dx (N,C)."""
    return (dy * mask(cache, dy.shape[1]).astype(dy.dtype),)


def mask(key, channels):
    """m/(1−p) for every row and channel: (N,C) float64."""
    key0, key1, site, threshold = words_of(key)
    blocks = -(-channels // 4)
    counter = np.broadcast_arrays(
        site, key.sequence[:, None], key.column[:, None], np.arange(blocks)[None, :]
    )
    words = np.stack(philox(*counter, key0, key1), axis=-1)  # (N, C/4, 4)
    words = words.reshape(len(key.column), 4 * blocks)[:, :channels]
    return (words >= threshold) / (1 - key.p)


def philox(c0, c1, c2, c3, key0, key1):
    """Four counter words (any shape) and two key words  ->  four random words, as uint64."""
    c0, c1, c2, c3 = (np.asarray(c).astype(np.uint64) for c in (c0, c1, c2, c3))
    for r in range(ROUNDS):
        k0 = np.uint64((int(key0) + r * int(W0)) & 0xFFFFFFFF)
        k1 = np.uint64((int(key1) + r * int(W1)) & 0xFFFFFFFF)
        left, right = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (
            (right >> SHIFT) ^ c1 ^ k0,
            right & LOW,
            (left >> SHIFT) ^ c3 ^ k1,
            left & LOW,
        )
    return c0, c1, c2, c3


# ------------------------------------------------------- Numba: rows across cores


@helper
def philox_words(c0, c1, c2, c3, key0, key1):
    for _ in range(ROUNDS):
        left, right = M0 * np.uint64(c0), M1 * np.uint64(c2)
        c0, c1, c2, c3 = (
            np.uint32(right >> SHIFT) ^ c1 ^ key0,
            np.uint32(right & LOW),
            np.uint32(left >> SHIFT) ^ c3 ^ key1,
            np.uint32(left & LOW),
        )
        key0, key1 = np.uint32(key0 + W0), np.uint32(key1 + W1)
    return c0, c1, c2, c3


def forward_cpu(x, *, key):
    y = empty_like(x)
    scale = np.float32(1 / (1 - key.p))
    _mask_rows(x, key.sequence, key.column, *words_of(key), scale, y)
    return y, key


@kernel
def _mask_rows(x, sequence, column, key0, key1, site, threshold, scale, y):
    N, C = x.shape
    for n in prange(N):
        s, t = np.uint32(sequence[n]), np.uint32(column[n])
        for block in range((C + 3) // 4):
            w0, w1, w2, w3 = philox_words(site, s, t, np.uint32(block), key0, key1)
            c = 4 * block  # products, not choices: NaN times 0 stays NaN
            y[n, c] = x[n, c] * (scale if w0 >= threshold else np.float32(0))
            if c + 1 < C:
                y[n, c + 1] = x[n, c + 1] * (scale if w1 >= threshold else np.float32(0))
            if c + 2 < C:
                y[n, c + 2] = x[n, c + 2] * (scale if w2 >= threshold else np.float32(0))
            if c + 3 < C:
                y[n, c + 3] = x[n, c + 3] * (scale if w3 >= threshold else np.float32(0))


def backward_cpu(dy, cache):
    dx, _ = forward_cpu(dy, key=cache)  # the same mask, applied to the gradient
    return (dx,)


# ------------------------------------------------------- CUDA: a thread for four channels

THREADS = 256
STEP0, STEP1 = np.uint64(W0), np.uint64(W1)


def forward_cuda(x, *, key):
    y, fours = device_empty(x.shape), -(-x.shape[1] // 4)
    places = to_device(key.sequence), to_device(key.column)
    grid = -(-len(x) * fours // THREADS)
    _mask_kernel[grid, THREADS](x, *places, *words_of(key), np.float32(1 / (1 - key.p)), y)
    return y, key


def backward_cuda(dy, cache):
    dx, _ = forward_cuda(dy, key=cache)
    return (dx,)


@cuda_kernel
def _mask_kernel(x, sequence, column, key0, key1, site, threshold, scale, y):
    at, C = cuda.grid(1), x.shape[1]
    fours = (C + 3) // 4
    if at < x.shape[0] * fours:
        n, block = at // fours, at % fours
        words = philox_cuda(site, sequence[n], column[n], block, key0, key1)
        for e in range(4):
            c = 4 * block + e
            if c < C:  # a product, not a choice: NaN times 0 stays NaN
                y[n, c] = x[n, c] * (scale if words[e] >= threshold else float32(0))


@device_function
def philox_cuda(c0, c1, c2, c3, key0, key1):
    """`philox`, in words of 64 bits, where no product and no sum of two overflows."""
    c0, c1, c2, c3, key0, key1 = (
        uint64(c0), uint64(c1), uint64(c2), uint64(c3), uint64(key0), uint64(key1)
    )  # fmt: skip
    for _ in range(ROUNDS):
        left, right = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (
            (right >> SHIFT) ^ c1 ^ key0,
            right & LOW,
            (left >> SHIFT) ^ c3 ^ key1,
            left & LOW,
        )
        key0, key1 = (key0 + STEP0) & LOW, (key1 + STEP1) & LOW
    return c0, c1, c2, c3
