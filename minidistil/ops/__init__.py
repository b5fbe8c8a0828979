"""Operations on arrays: one file each, read from the equation down to the kernels.

Every op keeps four laws. Positional arguments of `forward` get gradients, keyword arguments do
not; `backward` returns one gradient for each positional argument, in order; an op keeps no state
and draws nothing at random; every backend has the same signature. The NumPy pair
`forward`/`backward` is the specification, `forward_cpu`/`backward_cpu` are Numba kernels, as are
`forward_cuda`/`backward_cuda` for NVIDIA's devices.
"""

import importlib
from functools import cache
from types import SimpleNamespace

import numpy as np

from minidistil.io.arguments import one_of
from minidistil.ops.runtime.arrays import Device, Host, place_of
from minidistil.ops.runtime.matmul_settings import GEMMS, PRECISIONS, matmul_precision
from minidistil.ops.runtime.workspace import Workspace, frugal

__all__ = [
    "BACKENDS", "DTYPES", "GEMMS", "OPS", "PRECISIONS", "SUFFIX", "Workspace", "backend", "frugal",
    "instructions", "matmul_precision", "place_of",
]  # fmt: skip

OPS = (
    "add", "embedding", "linear", "gelu", "linear_gelu", "relu", "tanh", "softmax", "attention",
    "layernorm", "add_layernorm", "dropout", "cross_entropy", "weighted_cross_entropy",
    "binary_cross_entropy", "kl_div", "cosine", "mse", "mae", "moments", "relation", "vocabulary",
)  # fmt: skip
SUFFIX = {"numpy": "", "cpu": "_cpu"}  # of the backends that every machine has
BACKENDS = SUFFIX | {"cuda": "_cuda"}
# The narrow formats, and the ops whose operands they round, each in a file of its own
NARROW = {"bfloat16": "bf16", "int8": "int8"}
ROUNDED = ("linear", "linear_gelu")
DTYPES = {"float32": np.float32, "float64": np.float64, **dict.fromkeys(NARROW, np.float32)}


def backend(name, dtype="float32"):
    """Every op under one name: `backend("cpu").linear.forward(x, weight, bias)`.

    name: "numpy" (the specification), "cpu" (Numba kernels) or "cuda" (kernels for an NVIDIA
    device, where its arrays of floats live; integers, masks and draws come from the host).
    dtype: "float32"; "float64" for the specification alone; "bfloat16" or "int8", where the
    operands of every linear are rounded to that, for inference: their backward raises ValueError.
    Arrays go in and come out in float32 (float64) whatever is inside.
    Raises ValueError for any other name or dtype, for int8 where the processor lacks it, and for
    cuda where there is no device.
    """
    one_of("dtype", dtype, DTYPES)
    one_of("backend", name, BACKENDS)
    if dtype == "float64" and name != "numpy":
        raise ValueError("float64 needs backend 'numpy': the kernels compute in float32")
    if name == "cuda" and dtype != "float32":
        raise ValueError(
            f"backend 'cuda' keeps float32, not {dtype}; matmul_precision says what its products "
            f"round to"
        )
    if name == "cuda":
        from minidistil.ops.runtime.cuda import check_device

        check_device()
    return _made(name, dtype)


def instructions(name):
    """What the backend's matrix products run on now: for "cpu" as `runtime.amx.instructions`, for
    the others None."""
    if name != "cpu":
        return None
    from minidistil.ops.runtime import amx

    return amx.instructions()


@cache
def _made(name, dtype):
    return _Backend(name, dtype)


class _Backend:
    """The ops as attributes. An op's file is imported when it is first asked for, so that nobody
    waits for Numba who does not compute."""

    def __init__(self, name, dtype):
        self.name, self.dtype = name, dtype
        self.place = Device() if name == "cuda" else Host(DTYPES[dtype])

    def __getattr__(self, op):
        if op not in OPS:
            raise AttributeError(f"there is no op {op!r}")
        narrow = self.dtype in NARROW and op in ROUNDED
        file = f"{op}_{NARROW[self.dtype]}" if narrow else op
        module, suffix = importlib.import_module(f"minidistil.ops.{file}"), BACKENDS[self.name]
        pair = {d: getattr(module, d + suffix) for d in ("forward", "backward")}
        setattr(self, op, SimpleNamespace(**pair))  # from now on a plain attribute
        return getattr(self, op)
