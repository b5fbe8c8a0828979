"""Dropout: zero each value with probability p and scale the others so that the mean stays.

    y = x⊙m/(1−p)     m ∈ {0,1},  P(m = 1) = 1−p          ∂x = ∂y⊙m/(1−p)

The mask m does not come from a generator with state: it is a pure function of the value's position.
Philox (`kernels/philox.py`) turns a counter into four random 32-bit words under a key, and a value
survives where its word is at least p·2³²:

    key      seed, step                           one training step of one run
    counter  site, sequence, column, channel/4    which dropout, which token, which four channels

So backward computes m again instead of storing it, and m is the same on every backend, whether or
not rows are packed or a batch is split.
Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
2014; scaled in training, as in PyTorch.
"""

import numpy as np

from minidistil.ops.kernels.philox import philox, philox_cuda, philox_words
from minidistil.ops.runtime.cpu import kernel, prange
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, float32, to_device
from minidistil.ops.runtime.dropout_key import words_of
from minidistil.ops.runtime.workspace import empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x, *, key):
    """x (N,C), key a DropoutKey of N rows  ->  y (N,C), cache."""
    return x * mask(key, x.shape[1]).astype(x.dtype), key


def backward(dy, cache):
    """dy (N,C), cache  ->  dx (N,C)."""
    return (dy * mask(cache, dy.shape[1]).astype(dy.dtype),)


def mask(key, channels):
    """m/(1−p) for every row and channel: (N,C) float64."""
    words, blocks = words_of(key), -(-channels // 4)
    counter = np.broadcast_arrays(
        words.site, key.sequence[:, None], key.column[:, None], np.arange(blocks)[None, :]
    )
    random = np.stack(philox(*counter, words.key0, words.key1), axis=-1)  # (N, C/4, 4)
    random = random.reshape(len(key.column), 4 * blocks)[:, :channels]
    return (random >= words.threshold) / (1 - key.p)


# ------------------------------------------------------- Numba: rows across cores


def forward_cpu(x, *, key):
    y = empty_like(x)
    _mask_rows(x, key.sequence, key.column, words_of(key), y)
    return y, key


@kernel
def _mask_rows(x, sequence, column, words, y):
    (N, C), (key0, key1, site, threshold, scale) = x.shape, words
    for n in prange(N):
        s, t = np.uint32(sequence[n]), np.uint32(column[n])
        for block in range((C + 3) // 4):
            w0, w1, w2, w3 = philox_words(site, s, t, np.uint32(block), key0, key1)
            c = 4 * block  # a product, not a choice between x and 0: NaN times 0 stays NaN
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


def forward_cuda(x, *, key):
    y, fours = device_empty(x.shape), -(-x.shape[1] // 4)
    grid = -(-len(x) * fours // THREADS)
    _mask_kernel[grid, THREADS](x, to_device(key.sequence), to_device(key.column), words_of(key), y)
    return y, key


@cuda_kernel
def _mask_kernel(x, sequence, column, words, y):
    at, C = cuda.grid(1), x.shape[1]
    fours, (key0, key1, site, threshold, scale) = (C + 3) // 4, words
    if at < x.shape[0] * fours:
        n, block = at // fours, at % fours
        random = philox_cuda(site, sequence[n], column[n], block, key0, key1)
        for e in range(4):
            c = 4 * block + e
            if c < C:  # a product, not a choice between x and 0: NaN times 0 stays NaN
                y[n, c] = x[n, c] * (scale if random[e] >= threshold else float32(0))


def backward_cuda(dy, cache):
    dx, _ = forward_cuda(dy, key=cache)
    return (dx,)
