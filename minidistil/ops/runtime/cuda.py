"""The one door to numba.cuda: what every CUDA voice shares.

Importing numba.cuda takes a while and finding a device more, and most users have none. So nothing
here happens before the first launch: `cuda`, kernels, device functions and instructions are
promises (`Lazy`), and a kernel keeps those that its code names when it is launched first.

    @cuda_kernel                     a kernel: double[grid, block](x, y)
    @device_function                 what kernels call; inlined, so that it compiles with no device
    def double(x, y): ...

In Numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same source runs as Python, a thread after the
other, on the scheduler of `simulator.py`.

A warp is 32 threads that can read each other's registers. Sums over a block are made of sums over
its warps, always in the same order: first within a warp, then warp by warp.
"""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from llvmlite import ir
from numba import float32, types, uint32, uint64

from minidistil.ops.runtime import device_memory

__all__ = ["float32", "ir", "types", "uint32", "uint64"]

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
WARP, ALL = 32, 0xFFFFFFFF  # lanes of a warp, and the mask that names them all
TEAM = WARP if SIMULATED else 256  # threads that share a row; simulated ones are slow
FLAT = 256  # threads of a block where each has a number to itself


# ------------------------------------------------------- promises


class Lazy:
    """Something that `make` makes at the first use in a kernel."""

    def __init__(self, make):
        self.get = cache(make)


def _keep_promises(function):
    """Put what was promised into a function's globals and closure, so that Numba finds it."""
    for name in _names(function.__code__):
        promised = function.__globals__.get(name)
        if isinstance(promised, Lazy):
            function.__globals__[name] = promised.get()
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
def module():
    """numba.cuda. Raises ValueError where it, or a device, is missing."""
    try:
        from numba import cuda
    except ImportError as error:
        raise ValueError(f"{error}; {_remedy()}") from None
    if SIMULATED:
        from minidistil.ops.runtime import simulator

        simulator.install()
    elif "NUMBA_CUDA_MEMORY_MANAGER" not in os.environ:  # nobody asked for another one
        cuda.set_memory_manager(device_memory.manager(cuda))
    return cuda


def has_device():
    """Whether kernels can run on a device."""
    try:
        return not SIMULATED and module().is_available()
    except ValueError:
        return False


def can_compile():
    """Whether kernels can be compiled, which needs no device."""
    return not SIMULATED and find_spec("numba_cuda") is not None


def check_device():
    """Raises ValueError, in one line, where no kernel can run."""
    if not SIMULATED and not module().is_available():
        raise ValueError(f"backend 'cuda' finds no CUDA device; {_remedy()}")


def _remedy():
    return (
        "it needs one, its driver and `pip install 'minidistil[cuda]'`; "
        "NUMBA_ENABLE_CUDASIM=1 runs the kernels in Numba's simulator, slowly"
    )


cuda = Lazy(module)
KERNELS = []  # every kernel that was declared, for those who compile them without a device


class cuda_kernel:  # noqa: N801  (a decorator)
    """A kernel that compiles at its first launch, and once for each kind of arguments."""

    def __init__(self, function):
        self.function = function
        self.__doc__ = function.__doc__
        self._jit = None
        KERNELS.append(self)

    def __getitem__(self, launch):
        if self._jit is None:
            self._jit = module().jit(_keep_promises(self.function))
        return self._jit[launch]

    def source(self):
        """The function as numba.cuda's compiler takes it."""
        module()
        return _keep_promises(self.function)


def device_function(function):
    """For kernels to call. Inlined: nothing asks for a device while it compiles."""

    def make():
        _keep_promises(function)
        return module().jit(device=True, **({} if SIMULATED else {"inline": "always"}))(function)

    return Lazy(make)


def instruction(name):
    """For an instruction that Numba has no name for: the decorated function is a Numba intrinsic,
    and `name` that of the same thing in `emulation.py`."""

    def decorate(function):
        def make():
            if SIMULATED:
                return getattr(import_module("minidistil.ops.runtime.emulation"), name)
            from numba.cuda.extending import intrinsic

            return intrinsic(function)

        return Lazy(make)

    return decorate


# ------------------------------------------------------- arrays


def device_empty(shape, dtype=np.float32):
    """An array on the device, in C order."""
    return module().device_array(shape, dtype)


def device_zeros(shape):
    """The same filled with zeros, in float32."""
    x = device_empty(shape)
    if x.size:
        _clear_kernel[flat(x)](x.reshape(x.size))
    return x


@cuda_kernel
def _clear_kernel(x):
    i = cuda.grid(1)
    if i < x.shape[0]:
        x[i] = float32(0)


def flat(x):
    """Grid and block with a thread for each number of x."""
    return -(-x.size // FLAT), FLAT


def add_into(a, b):
    """a += b, of one shape, in place."""
    _add_into_kernel[flat(a)](a.reshape(a.size), b.reshape(b.size))


@cuda_kernel
def _add_into_kernel(a, b):
    i = cuda.grid(1)
    if i < a.shape[0]:
        a[i] += b[i]


def scaled(x, factor):
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


def to_device(x):
    """An array of the host  ->  the same on the device; what is there already stays. Waits for
    nothing that was launched before."""
    return _ring().send(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x


def floats_to_device(x):
    """What `to_device` gives, of numbers that may come in another type: float32 on the device."""
    return to_device(np.asarray(x, np.float32)) if isinstance(x, np.ndarray) else x


def to_host(x):
    """An array of the device  ->  NumPy's. Waits for everything that was launched before."""
    return x.copy_to_host()


# ------------------------------------------------------- sums over a warp, over a block


@device_function
def warp_sum(x):
    """Of every lane's x; all lanes get it."""
    for step in (16, 8, 4, 2, 1):
        x += cuda.shfl_xor_sync(ALL, x, step)
    return x


@device_function
def warp_max(x):
    """The largest of them; a NaN among them may go unnoticed."""
    for step in (16, 8, 4, 2, 1):
        x = max(x, cuda.shfl_xor_sync(ALL, x, step))
    return x


@device_function
def block_sum(x):
    """Of every thread's x; all threads get it. A block is whole warps."""
    parts = cuda.shared.array(WARP, float32)
    x = warp_sum(x)
    if cuda.threadIdx.x % WARP == 0:
        parts[cuda.threadIdx.x // WARP] = x
    cuda.syncthreads()
    total = float32(0)
    for w in range(cuda.blockDim.x // WARP):
        total += parts[w]
    cuda.syncthreads()  # nobody may reuse `parts` before everybody has read it
    return total


@device_function
def block_max(x):
    """The largest of them, likewise."""
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


def total(x, factor):
    """factor·Σ x (N,)  ->  (1,), on the device: what a loss is."""
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
