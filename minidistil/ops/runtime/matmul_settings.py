"""Precision of matrix products, and the code that computes them.

               CUDA                                       CPU with AMX
    highest    float32: 23 bits behind the point          float32: six bfloat16 products
    high       tf32 on tensor cores: operands of 10       operands of 15 bits behind the point:
               bits behind the point                      three bfloat16 products
    medium     bfloat16 on tensor cores: operands of 7    bfloat16: operands of 7 bits behind the
               bits behind the point                      point

Sums are float32 in all of them. The names are PyTorch's (`torch.set_float32_matmul_precision`). As
in PyTorch they permit rounding where it is faster: a CPU without AMX computes in float32 always.
NumPy ignores the setting.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

PRECISIONS = ("highest", "high", "medium")
GEMMS = ("own", "cublas")

_precision = ContextVar("precision", default="highest")
_gemm = ContextVar("gemm", default="own")


@contextmanager
def matmul_precision(name: str = "highest", gemm: str = "own") -> Iterator[None]:
    """`with matmul_precision("high"):` permits products to round their operands, on CUDA to tf32.

    name: "highest" (float32), "high" or "medium" (bfloat16). gemm: "own", or "cublas" for CUDA's
    library and its float32 product, which needs cupy. Raises ValueError for anything else.
    """
    for what, given, known in (("precision", name, PRECISIONS), ("gemm", gemm, GEMMS)):
        if given not in known:
            raise ValueError(f"matmul {what} must be one of {', '.join(known)}, not {given!r}")
    if gemm == "cublas" and name != "highest":
        raise ValueError(f"gemm 'cublas' computes in float32; leave out the precision {name!r}")
    if gemm == "cublas" and find_spec("cupy") is None:
        raise ValueError(
            "gemm 'cublas' needs cupy, which is not installed: pip install cupy-cuda13x"
        )
    tokens = _precision.set(name), _gemm.set(gemm)
    try:
        yield
    finally:
        _precision.reset(tokens[0])
        _gemm.reset(tokens[1])


def current() -> tuple[str, str]:
    """(precision, gemm) in effect."""
    return _precision.get(), _gemm.get()
