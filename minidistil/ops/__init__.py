"""Operations on arrays, one file each: equations, NumPy specification, CPU kernels, CUDA kernels.

Every op keeps four laws. Positional arguments of `forward` get gradients, keyword arguments do
not; `backward` returns one gradient for each positional argument, in order; an op has no state and
no randomness of its own; its signature is the same on every backend. The NumPy pair
`forward`/`backward` is the specification, `forward_cpu`/`backward_cpu` are Numba kernels, as are
`forward_cuda`/`backward_cuda` for NVIDIA's devices. A second output, `cache`, is what `backward`
needs of the forward.
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
SUFFIX = {"numpy": "", "cpu": "_cpu"}  # of the backends that need no device
BACKENDS = SUFFIX | {"cuda": "_cuda"}
# The narrow formats, and the ops whose operands each rounds, in files of their own
NARROW = {"bfloat16": "bf16", "int8": "int8"}
ROUNDED = {
    "bfloat16": ("linear", "linear_gelu", "vocabulary", "attention"),
    "int8": ("linear", "linear_gelu"),
}
DTYPES = {"float32": np.float32, "float64": np.float64, **dict.fromkeys(NARROW, np.float32)}


def backend(name: str, dtype: str = "float32") -> "Backend":
    """Every op under one name: `backend("cpu").linear.forward(x, weight, bias)`.

    name: "numpy" (the specification), "cpu" (Numba kernels) or "cuda" (kernels for an NVIDIA
    device, which holds the arrays of floats; integers, masks and dropout keys come from the host).
    dtype: "float32"; "float64" for the specification alone; "bfloat16": the operands of every
    linear's products are rounded to that, forward and backward (mixed precision); "int8": the same
    for inference alone, and backward raises ValueError. The arrays that go in and come out are
    float32 (or float64) in every case; what `linear_gelu` returns `for_linear` may be rounded and
    packed, and reads as such an array. "bfloat16" always rounds these, on every machine, and
    attention's where there is AMX; `matmul_precision` permits the products that stay float32 to
    round where it is faster.
    Raises ValueError for any other name or dtype, for int8 where the processor lacks it, and for
    cuda where there is no device.
    """
    one_of("dtype", dtype, DTYPES)
    one_of("backend", name, BACKENDS)
    if dtype == "float64" and name != "numpy":
        raise ValueError("float64 needs backend 'numpy': the kernels compute in float32")
    if name == "cuda" and dtype != "float32":
        raise ValueError(
            f"backend 'cuda' needs float32, not {dtype}; matmul_precision sets what its products "
            f"round to"
        )
    if name == "cuda":
        from minidistil.ops.runtime.cuda import check_device

        check_device()
    return _made(name, dtype)


def instructions(name: str) -> str | None:
    """What the backend's matrix products run on now: for "cpu" as `runtime.amx.instructions`, for
    the others None."""
    if name != "cpu":
        return None
    from minidistil.ops.runtime import amx

    return amx.instructions()


@cache
def _made(name, dtype):
    return Backend(name, dtype)


class Backend:
    """The ops as attributes, such as `ops.linear.forward`. An op's file is imported at its first
    use, so that importing the package does not import Numba."""

    def __init__(self, name, dtype):
        self.name, self.dtype = name, dtype
        self.place = Device() if name == "cuda" else Host(DTYPES[dtype])

    def __getattr__(self, op):
        if op not in OPS:
            raise AttributeError(f"there is no op {op!r}")
        narrow = op in ROUNDED.get(self.dtype, ())
        file = f"{op}_{NARROW[self.dtype]}" if narrow else op
        module, suffix = importlib.import_module(f"minidistil.ops.{file}"), BACKENDS[self.name]
        pair = {d: getattr(module, d + suffix) for d in ("forward", "backward")}
        setattr(self, op, SimpleNamespace(**pair))  # found without __getattr__ from now on
        return getattr(self, op)
