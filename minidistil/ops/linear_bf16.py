"""Linear in bfloat16: y = bf16(x)·bf16(W)ᵀ + b, half the bytes and, on some processors, half the
time.

Both operands are rounded to bfloat16 (`kernels/number_formats.py`), nearest, ties to even.
Everything else is float32: the product of two bfloat16 numbers has 16 bits and is exact in it, so
only the sum over channels rounds, as it does in float32; the bias is added unrounded.

For inference only: rounding has no useful derivative.
"""

from minidistil.ops.kernels import matmul_narrow
from minidistil.ops.kernels.number_formats import no_gradient, round_bf16

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), no cache."""
    return round_bf16(x) @ round_bf16(weight).T + bias, None


def backward(dy, cache):
    """dy, cache  ->  ValueError: there is no gradient."""
    raise no_gradient("bfloat16")


# ------------------------------------------------------- Numba: `kernels/matmul_narrow.py`


def forward_cpu(x, weight, bias):
    return matmul_narrow.linear_bf16(x, weight, bias), None


backward_cpu = backward
