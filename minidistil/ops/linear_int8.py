"""Linear in int8: a product of integers, with one scale for each row of x and each row of W.

    x[n,c] ≈ s[n]·q[n,c]        W[o,c] ≈ t[o]·w[o,c]        q, w integers of 8 bits
    y[n,o] = (s[n]·t[o]) · Σ_c q[n,c]·w[o,c]  +  b[o]

`kernels/number_formats.py` defines the quantisation of a row. Rows of x are quantised at each call
("dynamic"), each by its own smallest and largest entry, so that a token does not depend on its
neighbours in the batch; rows of W (one for each output channel) once. The sum is exact in 32 bits
for up to 66,311 channels, so its order does not matter. Three roundings follow, in float32 and in
this order: of the sum, of its product with s·t (which is exact: two bfloat16 numbers), and of the
sum with b.

A row of x that holds NaN or infinity gives a row of NaN. For inference only: 256 steps a row are
too few for gradients.
"""

import numpy as np

from minidistil.ops.kernels import matmul_narrow
from minidistil.ops.kernels.number_formats import LARGEST, WIDTH, quantize, quantize_rows

DEEPEST = (2**31 - 1) // (LARGEST * (WIDTH + 1))  # channels whose products fit into 32 bits

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), no cache.

    Raises ValueError for I > 66,311.
    """
    check_depth(x.shape[1])
    (q, s), (w, t) = quantize_rows(x), quantize(weight)
    total = q.astype(np.float64) @ w.T.astype(np.float64)  # (N,O), exact
    scale = (s[:, None] * t).astype(x.dtype)  # (N,O), exact
    return total.astype(x.dtype) * scale + bias, None


def backward(dy, cache):
    """dy, cache  ->  ValueError: there is no gradient."""
    raise ValueError(
        "a model in int8 is for inference, its rounding has no gradient; train in float32 or "
        'bfloat16 and give dtype="int8" when the result is loaded'
    )


def check_depth(I):
    """Raises ValueError where a sum over I channels could leave 32 bits."""
    if I > DEEPEST:
        raise ValueError(
            f"int8 sums over at most {DEEPEST:,} channels in 32 bits, not {I:,}; use bfloat16"
        )


# ------------------------------------------------------- Numba: `kernels/matmul_narrow.py`


def forward_cpu(x, weight, bias):
    check_depth(x.shape[-1])
    return matmul_narrow.linear_int8(x, weight, bias), None


backward_cpu = backward
