"""Access to numba.cuda: decorators, arrays and reductions that every CUDA implementation shares.

Importing numba.cuda takes a while, finding a device takes longer, and most users have none.
Everything here is therefore deferred to the first launch: `cuda`, kernels, device functions and
instructions are created on demand (`Lazy`), and the first launch of a kernel creates those that its
code names.

    @cuda_kernel                     a kernel: double[grid, block](x, y)
    @device_function                 a function of kernels; inlined, so it compiles with no device
    def double(x, y): ...

In Numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same source runs as Python, one thread after the
other, on the scheduler of `simulator.py`.

A warp is 32 threads that can read each other's registers. A sum over a block adds up sums over its
warps, always in the same order: first within each warp, then warp by warp.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, types, uint32, uint64

from minidistil.ops.runtime import device_memory

__all__ = ["float32", "ir", "types", "uint32", "uint64"]

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
WARP, ALL = 32, 0xFFFFFFFF  # lanes of a warp, and the mask of all of them
TEAM = WARP if SIMULATED else 256  # threads that share a row; simulated ones are slow
FLAT = 256  # threads of a block in which each computes one number


# ------------------------------------------------------- lazy creation


class Lazy:
    """A value that `make` creates at its first use in a kernel."""

    def __init__(self, make: Callable[[], Any]):
        self.get = cache(make)


def _resolve(function):
    """Replaces the `Lazy` values in a function's globals and closure, where Numba looks them up."""
    for name in _names(function.__code__):
        lazy = function.__globals__.get(name)
        if isinstance(lazy, Lazy):
            function.__globals__[name] = lazy.get()
    for cell in function.__closure__ or ():
        if isinstance(cell.cell_contents, Lazy):
            cell.cell_contents = cell.cell_contents.get()
    return function


def _names(code):
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _names(constant)


@cache
def module() -> ModuleType:
    """numba.cuda. Raises ValueError if it cannot be imported."""
    try:
        from numba import cuda
    except ImportError as error:
        raise ValueError(f"{error}; {_remedy()}") from None
    if SIMULATED:
        from minidistil.ops.runtime import simulator

        simulator.install()
    elif "NUMBA_CUDA_MEMORY_MANAGER" not in os.environ:  # unless the user chose another one
        cuda.set_memory_manager(device_memory.manager(cuda))
    return cuda


def has_device() -> bool:
    """Whether kernels can run on a device."""
    try:
        return not SIMULATED and module().is_available()
    except ValueError:
        return False


def can_compile() -> bool:
    """Whether kernels can be compiled; this needs no device."""
    return not SIMULATED and find_spec("numba_cuda") is not None


def check_device() -> None:
    """Raises ValueError, in one line, if no kernel can run."""
    if not SIMULATED and not module().is_available():
        raise ValueError(f"backend 'cuda' finds no CUDA device; {_remedy()}")


def _remedy():
    return (
        "it needs one, its driver and `pip install 'minidistil[cuda]'`; "
        "NUMBA_ENABLE_CUDASIM=1 runs the kernels in Numba's simulator, slowly"
    )


cuda = Lazy(module)
KERNELS = []  # every declared kernel, for compiling them without a device


class cuda_kernel:  # noqa: N801  (a decorator)
    """A kernel; it compiles at its first launch, once for each combination of argument types."""

    def __init__(self, function):
        self.function = function
        self.__doc__ = function.__doc__
        self._jit = None
        KERNELS.append(self)

    def __getitem__(self, launch):
        if self._jit is None:
            self._jit = module().jit(_resolve(self.function))
        return self._jit[launch]

    def source(self):
        """The function, ready for numba.cuda's compiler."""
        module()
        return _resolve(self.function)


def device_function(function):
    """A function that kernels call. It is inlined, so that it compiles without a device."""

    def make():
        _resolve(function)
        return module().jit(device=True, **({} if SIMULATED else {"inline": "always"}))(function)

    return Lazy(make)


def instruction(name):
    """An instruction that Numba lacks: the decorated function is a Numba intrinsic, and `name` its
    equivalent in `emulation.py`."""

    def decorate(function):
        def make():
            if SIMULATED:
                return getattr(import_module("minidistil.ops.runtime.emulation"), name)
            from numba.cuda.extending import intrinsic

            return intrinsic(function)

        return Lazy(make)

    return decorate


# ------------------------------------------------------- arrays


def device_empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array on the device, in C order."""
    return module().device_array(shape, dtype)


def device_zeros(shape: int | tuple[int, ...]) -> Any:
    """A float32 array on the device, filled with zeros."""
    x = device_empty(shape)
    if x.size:
        _clear_kernel[flat(x)](x.reshape(x.size))
    return x


@cuda_kernel
def _clear_kernel(x):
    i = cuda.grid(1)
    if i < x.shape[0]:
        x[i] = float32(0)


def flat(x: Any) -> tuple[int, int]:
    """The grid and block with one thread for each number of x."""
    return -(-x.size // FLAT), FLAT


def add_into(a: Any, b: Any) -> None:
    """a += b in place; both have one shape."""
    _add_into_kernel[flat(a)](a.reshape(a.size), b.reshape(b.size))


@cuda_kernel
def _add_into_kernel(a, b):
    i = cuda.grid(1)
    if i < a.shape[0]:
        a[i] += b[i]


def scaled(x: Any, factor: float) -> Any:
    """factor·x, a fresh array."""
    y = device_empty(x.shape)
    _scale_kernel[flat(x)](x.reshape(x.size), np.float32(factor), y.reshape(x.size))
    return y


@cuda_kernel
def _scale_kernel(x, factor, y):
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] = factor * x[i]


@cache
def _ring():
    return device_memory.Ring(module())


def to_device(x: Any) -> Any:
    """An array of the host  ->  its copy on the device; one of the device is returned unchanged.
    Does not wait for earlier launches."""
    return _ring().send(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x


def floats_to_device(x: Any) -> Any:
    """`to_device` of floats in any dtype, as float32."""
    return to_device(np.asarray(x, np.float32)) if isinstance(x, np.ndarray) else x


def to_host(x: Any) -> np.ndarray:
    """An array of the device  ->  NumPy's. Waits for all earlier launches."""
    return x.copy_to_host()


# ------------------------------------------------------- sums over a warp, over a block


@device_function
def warp_sum(x):
    """The sum of x over the lanes, in every lane."""
    for step in (16, 8, 4, 2, 1):
        x += cuda.shfl_xor_sync(ALL, x, step)
    return x


@device_function
def warp_max(x):
    """The largest x of the lanes, in every lane; a NaN may be ignored."""
    for step in (16, 8, 4, 2, 1):
        x = max(x, cuda.shfl_xor_sync(ALL, x, step))
    return x


@device_function
def block_sum(x):
    """The sum of x over the block, in every thread. A block consists of whole warps."""
    parts = cuda.shared.array(WARP, float32)
    x = warp_sum(x)
    if cuda.threadIdx.x % WARP == 0:
        parts[cuda.threadIdx.x // WARP] = x
    cuda.syncthreads()
    total = float32(0)
    for w in range(cuda.blockDim.x // WARP):
        total += parts[w]
    cuda.syncthreads()  # all threads read `parts` before the next call writes to it
    return total


@device_function
def block_max(x):
    """The largest x of the block, in every thread."""
    parts = cuda.shared.array(WARP, float32)
    x = warp_max(x)
    if cuda.threadIdx.x % WARP == 0:
        parts[cuda.threadIdx.x // WARP] = x
    cuda.syncthreads()
    top = parts[0]
    for w in range(1, cuda.blockDim.x // WARP):
        top = max(top, parts[w])
    cuda.syncthreads()
    return top


def total(x: Any, factor: float) -> Any:
    """x (N,)  ->  factor·Σ x (1,), on the device: a loss."""
    y = device_empty(1)
    _total_kernel[1, TEAM](x, np.float32(factor), y)
    return y


@cuda_kernel
def _total_kernel(x, factor, y):
    part = float32(0)
    for n in range(cuda.threadIdx.x, x.shape[0], cuda.blockDim.x):
        part += x[n]
    part = block_sum(part)
    if cuda.threadIdx.x == 0:
        y[0] = part * factor
