"""Linear and GELU with the operands of the product in bfloat16: `linear_bf16.py`, then `gelu.py`.

GELU takes the product's float32 sums: nothing more is rounded.
"""

from minidistil.ops import gelu, linear_bf16
from minidistil.ops.kernels import matmul_narrow

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, approximate="none", keep=True):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), no cache. Raises as `linear_bf16` does."""
    h, _ = linear_bf16.forward(x, weight, bias)
    return gelu.forward(h, approximate=approximate)[0], None


backward = linear_bf16.backward


# ------------------------------------------------------- Numba: `kernels/matmul_narrow.py`


def forward_cpu(x, weight, bias, *, approximate="none", keep=True):
    return matmul_narrow.linear_bf16(x, weight, bias, approximate), None


backward_cpu = backward
