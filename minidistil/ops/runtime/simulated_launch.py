"""Launches a kernel in the simulator from a process whose Numba does not simulate.

With NUMBA_ENABLE_CUDASIM=1, which has to be set before Numba is imported, numba.cuda is the
simulator. `launch` needs no such variable: it runs the Python function behind a kernel on the
scheduler of `simulator.py`, with the simulator in place of `cuda`. The caller provides the arrays
and the shared memory, and can record what happens to them; `minidistil/puzzles` does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda.simulator import kernelapi

from minidistil.ops.runtime.cuda import cuda as lazy_cuda
from minidistil.ops.runtime.simulator import ThreadBlock, install


def _float32(function):
    """A function of `math` as a device has it: float32 in, float32 out, infinity on overflow."""
    return lambda *args: function(*(np.float32(x) for x in args))


_MATH = SimpleNamespace(
    **{name: _float32(getattr(np, name)) for name in (
        "exp", "log", "sqrt", "tanh", "sin", "cos", "floor", "ceil")},
    fabs=_float32(np.abs), pow=_float32(np.power), inf=math.inf, pi=math.pi, e=math.e,
)  # fmt: skip


def _bound(function, device):
    """A copy of a kernel or device function whose `cuda` is `device` and whose `math` is _MATH."""
    function = getattr(function, "py_func", function)
    code, names, closure = function.__code__, dict(function.__globals__), None
    for name in {*code.co_names} & {*names}:
        names[name] = _on_device(names[name], device)
    if function.__closure__:
        closure = tuple(CellType(_on_device(c.cell_contents, device)) for c in function.__closure__)
    return FunctionType(code, names, function.__name__, function.__defaults__, closure)


def _on_device(value, device):
    if value is cuda or value is lazy_cuda:
        return device
    if value is math:
        return _MATH
    return _bound(value, device) if hasattr(value, "py_func") else value


def launch(
    function: Callable,
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Any],
    parts: Callable[[tuple[int, ...]], Mapping[str, Any]],
) -> None:
    """Runs a kernel once, block after block, with no device.

    function: a Python function, or one decorated with @cuda.jit. args are passed as they are.
    parts: called with the index of each block; returns what replaces parts of its `cuda`, such as
    {"shared": an object with a method array(shape, dtype)}. Raises what the kernel raises, and
    DivergentBarrierError.
    """
    install()
    grid, block = ((*dims, 1, 1)[:3] for dims in (grid, block))
    for index in np.ndindex(*grid):
        device = kernelapi.FakeCUDAModule(grid, block, 0)
        for name, part in parts(index).items():
            setattr(device, f"_{name}", part)
        ThreadBlock(_quiet(_bound(function, device)), grid, block, False).run(index, *args)


def _quiet(function):
    """A device computes infinities and NaN without a warning."""

    def run(*args):
        with np.errstate(all="ignore"):
            function(*args)

    return run
