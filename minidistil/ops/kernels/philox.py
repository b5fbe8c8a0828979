"""Philox4x32-10: random numbers as a function of a counter and a key, without a state.

A block cipher of ten rounds turns a counter of four 32-bit words into four random words, under a
key of two. Each round multiplies two of the words by constants; the high and low halves of the two
64-bit products, mixed with the other words and with the key, are the next counter:

    c0, c1, c2, c3  ←  hi(M1·c2)⊕c1⊕k0,  lo(M1·c2),  hi(M0·c0)⊕c3⊕k1,  lo(M0·c0)
    k0, k1          ←  k0 + W0,  k1 + W1                       (modulo 2³²)

One function for each implementation: `philox` (NumPy), `philox_words` (CPU), `philox_cuda`.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

import numpy as np

from minidistil.ops.runtime.cpu import helper
from minidistil.ops.runtime.cuda import device_function, uint64

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
W0, W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)  # added to the key in each round
STEP0, STEP1 = np.uint64(W0), np.uint64(W1)
ROUNDS = 10
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)  # the low half of a product; shift to the high


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


@helper
def philox_words(c0, c1, c2, c3, key0, key1):
    """`philox` of one counter; all words are uint32."""
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


@device_function
def philox_cuda(c0, c1, c2, c3, key0, key1):
    """`philox` of one counter, in 64-bit words, where no product and no sum of two overflows."""
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
