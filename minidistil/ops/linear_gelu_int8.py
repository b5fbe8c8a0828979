"""Linear and GELU with the operands of the product in int8: `linear_int8.py`, then `gelu.py`.

GELU takes the product's float32 sums. What goes to a linear layer alone is rounded to 8 bits there;
with AMX, its GELU has an error below 2⁻¹⁴ (`kernels/activation.py`).
"""

from minidistil.ops import gelu, linear_int8
from minidistil.ops.kernels import matmul_narrow
from minidistil.ops.kernels.activation import form_of

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), no cache. Raises as `linear_int8` does."""
    h, _ = linear_int8.forward(x, weight, bias)
    return gelu.forward(h, approximate=approximate)[0], None


backward = linear_int8.backward


# ------------------------------------------------------- Numba: `kernels/matmul_narrow.py`


def forward_cpu(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    linear_int8.check_depth(x.shape[-1])
    form = form_of(approximate, for_linear)
    return matmul_narrow.linear_int8(x, weight, bias, form), None


backward_cpu = backward
