"""Dropout's random words on the device: `philox` of `dropout.py`, word for word.

All words lie in 64 bits, where no product and no sum of two overflows.
"""

import numpy as np

from minidistil.ops._cuda import device_function, uint64
from minidistil.ops.dropout import LOW, M0, M1, ROUNDS, SHIFT, W0, W1

STEP0, STEP1 = np.uint64(W0), np.uint64(W1)


@device_function
def philox_words(c0, c1, c2, c3, key0, key1):
    """Four counter words and two key words  ->  four random words, as uint64."""
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
