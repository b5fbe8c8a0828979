"""Linear in bfloat16: y = bf16(x)·bf16(W)ᵀ + b, half the bytes and, on some processors, half the
time.

Both operands are rounded to bfloat16 (`kernels/number_formats.py`), nearest, ties to even.
Everything else is float32: the product of two bfloat16 numbers has 16 bits and is exact in it, so
only the sum over channels rounds, as it does in float32; the bias is added unrounded.

The gradient is that of `linear.py` with the operands of its two products rounded as well:

    ∂x = bf16(∂y)·bf16(W)          ∂W = bf16(∂y)ᵀ·bf16(x)          ∂b = Σ_n ∂y[n]

Rounding is a staircase: its derivative is 0 between two steps, and useless. It counts as 1 here
(the straight-through estimate), so ∂x and ∂W are those of the rounded product with respect to its
rounded operands. This is mixed precision: weights, activations, gradients and the optimiser stay
float32, and only what enters a product is rounded. bfloat16 has float32's exponents, so small
gradients do not vanish, and the loss needs no scale as it does in float16.
(Micikevicius et al., "Mixed precision training", 2018; Kalamkar et al., "A study of BFLOAT16 for
deep learning training", 2019.)
"""

from minidistil.ops.kernels import matmul_narrow
from minidistil.ops.kernels.matmul_bf16 import matmul_bf16
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.linear import column_sums, sum_of_rows

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), cache."""
    return round_bf16(x) @ round_bf16(weight).T + bias, (x, weight)


def backward(dy, cache):
    """dy (N,O), cache  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    x, weight = cache
    rounded = round_bf16(dy)
    return rounded @ round_bf16(weight), rounded.T @ round_bf16(x), sum_of_rows(dy)


# ------------------------------------------------------- Numba: `kernels/matmul_bf16.py`


def forward_cpu(x, weight, bias):
    return matmul_narrow.linear_bf16(x, weight, bias), (x, weight)  # keeps W packed


def backward_cpu(dy, cache):
    x, weight = cache
    return matmul_bf16(dy, weight), matmul_bf16(dy.T, x), column_sums(dy)
