"""Matrix product C = bf16(A)·bf16(B) on the CPU: both factors are rounded, sums are float32.

The products of a training step in bfloat16, forward and backward, in any layout of A and B. With
AMX a product is one pass over its tiles (`amx_matmul.py`); without, it is that of
`matmul_narrow.py`, which takes B transposed and packs it anew, because each version of a weight and
each gradient meets its product once.
"""

import numpy as np

from minidistil.ops.kernels.activation import CODES, activate
from minidistil.ops.kernels.amx_products import After
from minidistil.ops.kernels.amx_products import product as amx_product
from minidistil.ops.kernels.amx_tile import BF16
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.kernels.matmul_narrow import linear_bf16
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.workspace import empty


def matmul_bf16(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    add: bool = False,
    gelu: str | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """a (M,K), b (K,N)  ->  c (M,N), float32; every argument as in `matmul`, which this replaces
    where the factors are to be rounded."""
    (M, K), N = a.shape, b.shape[1]
    if not (M and K and N):
        return matmul(a, b, out, bias=bias, add=add, gelu=gelu, into=into)  # nothing to round
    out = empty((M, N)) if out is None else out
    into = out if into is None else into
    if amx.in_use():
        amx_product(BF16, a, b, out, After(bias, add, CODES[gelu], into))
        return out
    bias = np.zeros(N, np.float32) if bias is None else bias
    c = linear_bf16(a, b.T, bias)
    if add:
        out += c
    else:
        out[...] = c
    if gelu is not None:
        activate(out, gelu, into)
    return out
