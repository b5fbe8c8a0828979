"""Linear and GELU in one pass: y = gelu(x·Wᵀ + b), the first half of a feed-forward layer.

The output of this product is the largest array of a block, (N,F) with F = 4C. Computed separately,
GELU would read from memory what the product has just written there. Here GELU is applied to each
strip of the product while the cache still holds it, and for inference y overwrites h = x·Wᵀ + b.

Backward needs h, not y, since GELU has no inverse:

    ∂h = ∂y ⊙ gelu′(h)          ∂x, ∂W, ∂b from ∂h as in `linear.py`
"""

from minidistil.ops import gelu, linear
from minidistil.ops.kernels import matmul_cuda
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.runtime.cuda import device_empty
from minidistil.ops.runtime.workspace import empty, empty_like

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    """x (N,I), weight (O,I), bias (O,)  ->  y (N,O), the caches of linear and of gelu.

    keep=False: inference; the cache is None. for_linear: y goes to linear layers alone, which
    matters in bfloat16 (`linear_gelu_bf16.py`).
    """
    h, product = linear.forward(x, weight, bias)  # (N,O)
    y, activation = gelu.forward(h, approximate=approximate)
    return y, (product, activation) if keep else None


def backward(dy, cache):
    """dy (N,O), cache  ->  dx (N,I), dweight (O,I), dbias (O,)."""
    product, activation = cache
    (dh,) = gelu.backward(dy, activation)
    return linear.backward(dh, product)


# ------------------------------------------------------- Numba: GELU at the end of each strip


def forward_cpu(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    h = empty((len(x), len(weight)))
    y = empty_like(h) if keep else h
    matmul(x, weight.T, h, bias=bias, gelu=approximate, into=y)
    return y, ((x, weight), (h, approximate)) if keep else None


def backward_cpu(dy, cache):
    product, activation = cache
    (dh,) = gelu.backward_cpu(dy, activation)
    return linear.backward_cpu(dh, product)


# ------------------------------------------------------- CUDA: GELU at the end of each tile


def forward_cuda(x, weight, bias, *, approximate="none", keep=True, for_linear=False):
    h = device_empty((len(x), len(weight)))
    y = device_empty(h.shape) if keep else h
    matmul_cuda.matmul(x, weight, h, transpose_b=True, bias=bias, gelu=approximate, into=y)
    return y, ((x, weight), (h, approximate)) if keep else None


def backward_cuda(dy, cache):
    product, activation = cache
    (dh,) = gelu.backward_cuda(dy, activation)
    return linear.backward_cuda(dh, product)
