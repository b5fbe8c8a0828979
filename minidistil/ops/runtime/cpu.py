"""Decorators that compile the CPU kernels, and the arithmetic that kernels share.

`math.exp`, `math.tanh` and `math.erf` call a scalar C library from inside a Numba loop, one
element at a time: 3 to 20 ns each. The functions below are plain arithmetic, so LLVM compiles a
loop over them to vector instructions: about 0.4 ns. Each splits its argument where one formula
stops being accurate, computes both sides and selects one, because a vector lane cannot branch.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Idle OpenMP threads spin by default, which takes the core from other programs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
from llvmlite import ir
from numba import carray, get_num_threads, njit, prange, types
from numba.core import cgutils, codegen, config, event
from numba.extending import intrinsic

from minidistil.ops.runtime.kernel_cache import KernelCache
from minidistil.ops.runtime.machine_code import Pipeline

__all__ = [
    "CHUNKS", "FEATURES", "address_of", "bits_from_float", "carray", "cgutils", "compilations",
    "cores",
    "erf", "erf_of_array", "exact", "exp", "float_from_bits", "get_num_threads", "helper",
    "intrinsic", "ir", "kernel", "own_code", "prange", "serial", "tanh", "threads", "types",
    "use_threads",
]  # fmt: skip

# The features that Numba compiles for, such as {"+avx2", "-avx512f"}; the key of its cache.
FEATURES = config.CPU_FEATURES
FEATURES = set((codegen.get_host_cpu_features() if FEATURES is None else FEATURES).split(","))

CHUNKS = 16  # row-chunks in a sum over rows; fixed, so rounding never depends on the core count

# reassoc lets the compiler sum in vector lanes, contract lets it fuse a*b + c, nsz lets it ignore
# the sign of zero. The flags that assume no NaN and no infinity are left out on purpose.
FASTMATH = {"reassoc", "contract", "nsz"}


def _kept(**options):
    """Numba's decorator with this package's machine code (`Pipeline`) and cache (`KernelCache`)."""
    numba_decorator = njit(pipeline_class=Pipeline, error_model="numpy", nogil=True, **options)

    def decorate(function):
        dispatcher = numba_decorator(function)
        dispatcher._cache = KernelCache(function)
        return dispatcher

    return decorate


kernel = _kept(parallel=True, fastmath=FASTMATH)
serial = _kept(fastmath=FASTMATH)
exact = _kept  # rounds as it is written; a kernel's flags also hold in the functions that it calls
helper = njit(inline="always", fastmath=FASTMATH, error_model="numpy")


def cores() -> int:
    """The largest number of threads for kernels."""
    return config.NUMBA_NUM_THREADS


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`with threads(2):` runs the kernels on that many threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


class _Compilations(event.Listener):
    """Counts compiled kernels, and shows a progress bar on a terminal while they compile.

    Kernels in the cache are not compiled, so the bar appears once on a machine.
    """

    def __init__(self):
        self.count, self._depth, self._bar = 0, 0, None

    def on_start(self, event):
        self._depth += self._ours(event)  # a kernel also compiles the functions that it calls
        if self._depth == 1 and self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc="compiling kernels for this processor, once", unit=" kernels",
                file=sys.stderr, disable=None, leave=False,
            )  # fmt: skip

    def on_end(self, event):
        self._depth -= self._ours(event)
        if self._ours(event) and self._depth == 0:
            self.count += 1
            self._bar.update()
            self._bar.clear()  # leaves an empty line for other output

    def _ours(self, event):
        return event.data["dispatcher"].py_func.__module__.startswith("minidistil.")


compilations = _Compilations()
event.register("numba:compile", compilations)


@helper
def address_of(x):
    """Inside a kernel: the address of an array's first entry."""
    return np.int64(x.ctypes.data)  # Numba adds an unsigned integer to a signed one in float64


@intrinsic
def use_threads(typingctx, count):
    """Inside a kernel: the following loops run on `count` threads; returns the number before.

    Numba's own set_num_threads holds an address of this process, so a kernel with it cannot be
    cached.
    """
    integer = ir.IntType(64)  # as in Numba's own calls of these functions of C

    def codegen(context, builder, sig, args):
        ask = ir.FunctionType(integer, [])
        tell = ir.FunctionType(ir.VoidType(), [integer])
        ask = cgutils.get_or_insert_function(builder.module, ask, "get_num_threads")
        tell = cgutils.get_or_insert_function(builder.module, tell, "set_num_threads")
        before = builder.call(ask, [])
        builder.call(tell, args)
        return before

    return types.int64(types.int64), codegen


@intrinsic
def own_code(typingctx):
    """The function that calls this is not inlined, and may use vectors of 512 bits.

    LLVM prefers 256 on Intel's processors, where wide vectors once slowed the clock down. GELU over
    an array takes 0.65 ns an element with 512 and 1.03 with 256.
    """

    def codegen(context, builder, sig, args):
        attributes = builder.function.attributes
        attributes.add("noinline")
        set.add(attributes, '"prefer-vector-width"="512"')  # llvmlite knows no such attribute
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def float_from_bits(typingctx, bits):
    """The float32 of these bits, an int32."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def bits_from_float(typingctx, x):
    """The bits of a float32, as an int32."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def _multiply_add(typingctx, a, b, c):
    """a·b + c, fused where the processor can, and never reassociated."""

    def codegen(context, builder, sig, args):
        name, kind = "llvm.fmuladd.f32", ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return types.float32(types.float32, types.float32, types.float32), codegen


f = np.float32
LOG2E, LN2_HI, LN2_LO = f(1.44269504), f(0.693359375), f(-2.12194440e-4)


@helper
def exp(x):
    """eˣ = 2ᵏ·eʳ with k the nearest integer to x/ln 2, so |r| < 0.35 and six terms of eʳ do.

    ln 2 is taken off in two parts, since float32 cannot hold it; written as z − k·a − k·b, reassoc
    would add the parts first and lose 4 ulp. Below -87 the result would be denormal and stays at
    e⁻⁸⁷ (1.6e-38); NaN stays NaN.
    """
    z = min(max(x, f(-87.0)), f(88.0))
    k = np.floor(z * LOG2E + f(0.5))  # math.floor would go through int64
    r = _multiply_add(k, -LN2_LO, _multiply_add(k, -LN2_HI, z))
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    p = p * r * r + r + f(1)
    y = p * float_from_bits((np.int32(k) + np.int32(127)) << np.int32(23))
    return y if x == x else x


@helper
def tanh(x):
    """x·P(x²) near zero, 1 − 2/(e²ˣ + 1) beyond 0.625, where nothing cancels any more."""
    a = abs(x)
    u = a * a
    p = f(-0.005607688799500465)
    p = p * u + f(0.020544905215501785)
    p = p * u + f(-0.0537070669233799)
    p = p * u + f(0.13330957293510437)
    p = p * u + f(-0.33333253860473633)
    near = x + x * u * p
    far = f(1) - f(2) / (exp(f(2) * a) + f(1))
    return near if a < f(0.625) else (far if x >= f(0) else -far)


@helper
def erf(x):
    """x·P(x²) near zero, 1 − e^Q(|x|) beyond 1; P and Q are Chebyshev fits, good to 3 ulp."""
    a = min(abs(x), f(4.0))
    u = a * a
    p = f(-0.0005654105916619301)
    p = p * u + f(0.004923277534544468)
    p = p * u + f(-0.026716385036706924)
    p = p * u + f(0.11280364543199539)
    p = p * u + f(-0.37612348794937134)
    p = p * u + f(1.1283791065216064)
    q = f(1.5729812048448366e-06)
    q = q * a + f(-4.4794578570872545e-05)
    q = q * a + f(0.0005862001562491059)
    q = q * a + f(-0.004710125271230936)
    q = q * a + f(0.026281151920557022)
    q = q * a + f(-0.10983451455831528)
    q = q * a + f(-0.632086455821991)
    q = q * a + f(-1.130081057548523)
    q = q * a + f(0.00028249071328900754)
    far = f(1) - exp(q)
    y = x * p if a < f(1) else (far if x >= f(0) else -far)
    return y if x == x else x


def erf_of_array(x: np.ndarray) -> np.ndarray:
    """erf of an array in float32 or float64, which NumPy lacks."""
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    _erf_of_each(x.reshape(-1), y.reshape(-1))
    return y


@exact()
def _erf_of_each(x, y):
    for i in range(len(x)):
        y[i] = math.erf(x[i])
