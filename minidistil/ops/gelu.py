"""GELU: x times the probability that a standard normal variable is below x.

    y = x·Φ(x)          Φ(x) = ½(1 + erf(x/√2))          ∂x = ∂y·(Φ(x) + x·φ(x)),  φ = Φ′

BERT and DistilBERT use this form (`"gelu"`). GPT-2 and the first BERT code use an approximation
(`approximate="tanh"`, called `"gelu_new"` in configs):

    Φ(x) ≈ ½(1 + tanh z)     z = √(2/π)(x + 0.044715x³)     φ(x) ≈ ½(1 − tanh² z)·z′

They differ by up to 5e-4: too little to matter in training, enough to fail a comparison. The value
of one number, which the matrix products compute as well, is in `kernels/activation.py`.
Source: Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016, §2.
"""

import math
from functools import cache

import numpy as np

from minidistil.ops.kernels.activation import (
    CODES,
    CUBIC,
    CUBIC_32,
    ROOT_2_OVER_PI,
    ROOT_2_OVER_PI_32,
    ROOT_HALF,
    ROOT_HALF_32,
    activate,
    gelu_cuda,
    tanh_argument,
)
from minidistil.ops.runtime.cpu import (
    erf,
    erf_of_array,
    exp,
    kernel,
    own_code,
    prange,
    serial,
    tanh,
)
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_empty, flat, float32
from minidistil.ops.runtime.workspace import empty_like

DENSITY = 1 / math.sqrt(2 * math.pi)  # φ(0)

# ------------------------------------------------------- NumPy: the specification


def forward(x, *, approximate="none"):
    """x (N,F)  ->  y (N,F), cache."""
    Phi, _ = _distribution(x, approximate)
    return x * Phi, (x, approximate)


def backward(dy, cache):
    """dy (N,F), cache  ->  dx (N,F)."""
    x, approximate = cache
    Phi, phi = _distribution(x, approximate)
    return (dy * (Phi + x * phi),)


def _distribution(x, approximate):
    """Φ(x) and its derivative φ(x), both (N,F)."""
    if approximate == "tanh":
        t = np.tanh(ROOT_2_OVER_PI * (x + CUBIC * x**3))
        return 0.5 * (1 + t), 0.5 * (1 - t * t) * ROOT_2_OVER_PI * (1 + 3 * CUBIC * x * x)
    return 0.5 * (1 + erf_of_array(x * ROOT_HALF)), DENSITY * np.exp(-0.5 * x * x)


# ------------------------------------------------------- Numba: rows across cores

f = np.float32
DENSITY_32 = f(DENSITY)


def forward_cpu(x, *, approximate="none"):
    y = empty_like(x)
    activate(x, approximate, y)
    return y, (x, approximate)


def backward_cpu(dy, cache):
    x, approximate = cache
    dx = empty_like(x)
    (_backward_tanh if approximate == "tanh" else _backward_erf)(dy, x, dx)
    return (dx,)


@kernel
def _backward_erf(dy, x, dx):
    for n in prange(x.shape[0]):
        _row_erf(dy[n], x[n], dx[n])


@serial
def _row_erf(dy, x, dx):
    own_code()
    for c in range(len(x)):
        z = x[c]
        Phi = f(0.5) * (f(1) + erf(z * ROOT_HALF_32))
        dx[c] = dy[c] * (Phi + z * DENSITY_32 * exp(f(-0.5) * z * z))


@kernel
def _backward_tanh(dy, x, dx):
    for n in prange(x.shape[0]):
        _row_tanh(dy[n], x[n], dx[n])


@serial
def _row_tanh(dy, x, dx):
    own_code()
    for c in range(len(x)):
        z = x[c]
        t = tanh(tanh_argument(z))
        slope = ROOT_2_OVER_PI_32 * (f(1) + f(3) * CUBIC_32 * z * z)
        dx[c] = dy[c] * f(0.5) * (f(1) + t + z * (f(1) - t * t) * slope)


# ------------------------------------------------------- CUDA: a thread for each number


def forward_cuda(x, *, approximate="none"):
    y = device_empty(x.shape)
    _forward_kernel(CODES[approximate])[flat(x)](x, y)
    return y, (x, approximate)


def backward_cuda(dy, cache):
    x, approximate = cache
    dx = device_empty(x.shape)
    _backward_kernel(CODES[approximate])[flat(x)](dy, x, dx)
    return (dx,)


@cache
def _forward_kernel(form):
    @cuda_kernel
    def gelu_forward(x, y):
        at, C = cuda.grid(1), x.shape[1]
        if at < x.shape[0] * C:
            y[at // C, at % C] = gelu_cuda(x[at // C, at % C], form)

    return gelu_forward


@cache
def _backward_kernel(form):
    @cuda_kernel
    def gelu_backward(dy, x, dx):
        at, C = cuda.grid(1), x.shape[1]
        if at < x.shape[0] * C:
            z, d = x[at // C, at % C], dy[at // C, at % C]
            if form == 1:
                Phi = float32(0.5) * (float32(1) + float32(math.erf(z * ROOT_HALF_32)))
                phi = DENSITY_32 * float32(math.exp(float32(-0.5) * z * z))
            else:
                t = float32(math.tanh(ROOT_2_OVER_PI_32 * (z + CUBIC_32 * z * z * z)))
                slope = ROOT_2_OVER_PI_32 * (float32(1) + float32(3) * CUBIC_32 * z * z)
                Phi = float32(0.5) * (float32(1) + t)
                phi = float32(0.5) * (float32(1) - t * t) * slope
            dx[at // C, at % C] = d * (Phi + z * phi)

    return gelu_backward
