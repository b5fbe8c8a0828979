"""GELU of one number: the functions that the op `gelu` and the matrix products share.

    gelu(x) = x·½(1 + erf(x/√2))                             form "none"
    gelu(x) ≈ x·½(1 + tanh(√(2/π)(x + 0.044715x³)))          form "tanh"

`ops/gelu.py` derives both. A product applies GELU to each part of its result while a cache holds
it, so the functions are inlined into the loops of its kernels, too.

For "none", a result that linear layers round to 8 bits, bfloat16 or int8, needs no more than 14:

    gelu(x) ≈ x·(½ + h)                                      form "short", of kernels alone
    h = x·P(min(x², 4.25²)) ≈ ½·erf(x/√2), limited to ±½

P has degree 8 and the smallest error of x·h up to 4.25; the error of gelu is below 2⁻¹⁴ everywhere.
This takes a third of the instructions of `erf`, which has a second formula, with exp, for large x.
"""

import math

import numpy as np

from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import erf, helper, kernel, prange, tanh
from minidistil.ops.runtime.cuda import device_function, float32

FORMS = ("none", "tanh")  # values of `approximate`
CODES = {None: 0, "none": 1, "tanh": 2, "short": 3}  # forms as kernels take them
NO_GELU, ERF, TANH, SHORT = CODES.values()
ROOT_HALF, ROOT_2_OVER_PI, CUBIC = math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715

f = np.float32
ROOT_HALF_32, ROOT_2_OVER_PI_32, CUBIC_32 = f(ROOT_HALF), f(ROOT_2_OVER_PI), f(CUBIC)


@helper
def gelu_erf(x):
    """gelu(x) of one number, form "none"."""
    return x * f(0.5) * (f(1) + erf(x * ROOT_HALF_32))


@helper
def gelu_erf_short(x):
    """gelu(x) of one number, form "none", with an error below 2⁻¹⁴."""
    u = min(x * x, f(4.25**2))
    p = f(4.546892029555494e-11)
    p = p * u + f(-4.515143370298347e-09)
    p = p * u + f(1.98609967583252e-07)
    p = p * u + f(-5.147394858795451e-06)
    p = p * u + f(8.848773723002523e-05)
    p = p * u + f(-0.0010790680535137653)
    p = p * u + f(0.009718738496303558)
    p = p * u + f(-0.0661901980638504)
    p = p * u + f(0.3988191485404968)
    h = min(max(x * p, f(-0.5)), f(0.5))
    return x * h + x * f(0.5)


@helper
def gelu_tanh(x):
    """gelu(x) of one number, form "tanh"."""
    return x * f(0.5) * (f(1) + tanh(tanh_argument(x)))


@helper
def tanh_argument(x):
    """√(2/π)(x + 0.044715x³)."""
    return ROOT_2_OVER_PI_32 * (x + CUBIC_32 * x * x * x)


def form_of(approximate: str, for_linear: bool) -> str:
    """The form that AMX products of narrow formats compute; for_linear: they round the result."""
    short = approximate == "none" and for_linear and amx.in_use()
    return "short" if short else approximate


def activate(x, approximate, y):
    """y = gelu(x), both (N,F); y may be x. The forward kernel of `gelu`."""
    (_rows_tanh if approximate == "tanh" else _rows_erf)(x, y)


@kernel
def _rows_erf(x, y):
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[n, c] = gelu_erf(x[n, c])


@kernel
def _rows_tanh(x, y):
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[n, c] = gelu_tanh(x[n, c])


@device_function
def gelu_cuda(x, form):
    """gelu(x) of one number; form: 1 or 2, as `CODES` gives it."""
    if form == 1:
        return x * float32(0.5) * (float32(1) + float32(math.erf(x * ROOT_HALF_32)))
    z = ROOT_2_OVER_PI_32 * (x + CUBIC_32 * x * x * x)
    return x * float32(0.5) * (float32(1) + float32(math.tanh(z)))
