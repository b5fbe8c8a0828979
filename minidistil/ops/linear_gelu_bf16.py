"""Linear and GELU with the operands of the products in bfloat16: `linear_bf16.py`, then `gelu.py`.

GELU takes the product's float32 sums: nothing more is rounded, in either direction.

What goes to a linear layer alone is rounded to bfloat16 there. With AMX, its GELU has an error
below 2⁻¹⁴ before that (form "short" of `kernels/activation.py`).
"""

from minidistil.ops import gelu, linear_bf16
from minidistil.ops.kernels import matmul_narrow
from minidistil.ops.kernels.activation import form_of
from minidistil.ops.kernels.matmul_bf16 import matmul_bf16
from minidistil.ops.runtime.workspace import empty

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), the caches of linear_bf16 and of gelu.

    keep=False: inference; the cache is None. for_linear: y goes to linear layers alone, which round
    it; in inference, `forward_cpu` then returns it rounded already (`kernels/amx_rows.py`).
    """
    h, product = linear_bf16.forward(x, weight, bias)  # (N,O)
    y, activation = gelu.forward(h, approximate=approximate)
    return y, (product, activation) if keep else None


def backward(dy, cache):
    """dy (N,O), cache  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    product, activation = cache
    (dh,) = gelu.backward(dy, activation)
    return linear_bf16.backward(dh, product)


# ------------------------------------------------------- Numba: GELU at the end of each strip


def forward_cpu(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    form = form_of(approximate, for_linear)
    if not keep:
        return matmul_narrow.linear_bf16(x, weight, bias, form, for_linear=for_linear), None
    h, y = (empty((len(x), len(weight))) for _ in range(2))
    matmul_bf16(x, weight.T, h, bias=bias, gelu=form, into=y)
    return y, ((x, weight), (h, approximate))


def backward_cpu(dy, cache):
    product, activation = cache
    (dh,) = gelu.backward_cpu(dy, activation)
    return linear_bf16.backward_cpu(dh, product)
