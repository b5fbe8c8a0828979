"""Operations on arrays: one file each, read from the equation down to the kernels.

Every op keeps four laws. Positional arguments of `forward` get gradients, keyword arguments do
not; `backward` returns one gradient for each positional argument, in order; an op keeps no state
and draws nothing at random; every backend has the same signature. The NumPy pair
`forward`/`backward` is the specification, `forward_cpu`/`backward_cpu` are Numba kernels.
"""

import importlib
from functools import cache
from types import SimpleNamespace

OPS = (
    "add", "embedding", "linear", "gelu", "relu", "tanh", "softmax", "attention", "layernorm",
    "dropout", "cross_entropy", "binary_cross_entropy", "kl_div", "cosine", "mse",
)  # fmt: skip
SUFFIX = {"numpy": "", "cpu": "_cpu"}


@cache
def backend(name):
    """Every op under one name: `backend("cpu").linear.forward(x, weight, bias)`.

    name: "numpy" (the specification, float32 or float64) or "cpu" (Numba kernels, float32).
    Raises ValueError for any other name.
    """
    if name not in SUFFIX:
        raise ValueError(
            f"backend must be one of {', '.join(SUFFIX)}, not {name!r}; "
            f"this version has no CUDA kernels"
        )
    suffix = SUFFIX[name]
    ops = SimpleNamespace(name=name)
    for op in OPS:
        module = importlib.import_module(f"minidistil.ops.{op}")
        pair = {d: getattr(module, d + suffix) for d in ("forward", "backward")}
        setattr(ops, op, SimpleNamespace(**pair))
    return ops
