"""The instructions that a peer's matrix products run on, as far as the peer says.

PyTorch        oneDNN logs each product's implementation, such as brg_matmul:avx512_core_amx.
               MKL logs each call of SGEMM; PyTorch names the vectors that it and MKL use.
               FBGEMM, which computes its int8 products, logs nothing.
NumPy          OpenBLAS names the core whose kernels it chose, such as SkylakeX
ONNX Runtime   does not say: its build information names a commit and a build type
"""

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

WIDEST = (("amx", "AMX"), ("avx10_1_512|avx512", "AVX-512"), ("avx2", "AVX2"), ("sse41", "SSE4.1"),
          ("sve", "SVE"), ("asimd", "NEON"))  # fmt: skip
PRODUCTS = ("matmul", "inner_product", "gemm")  # of oneDNN's primitives
CAPABILITIES = {"AVX512": "AVX-512", "DEFAULT": None}  # PyTorch's names
CORES = {
    "SkylakeX": "AVX-512",
    "Cooperlake": "AVX-512",
    "SapphireRapids": "AVX-512",
    "Haswell": "AVX2",
    "Zen": "AVX2",
}  # OpenBLAS's names


@contextmanager
def torch_products() -> Iterator[Callable[[], str | None]]:
    """`with torch_products() as told:` PyTorch computes; told() -> "AMX", …, None if unknown."""
    import torch

    mkldnn, mkl = torch.backends.mkldnn, torch.backends.mkl
    capability = torch.backends.cpu.get_cpu_capability()
    with (
        _output_of_libraries() as lines, mkldnn.verbose(mkldnn.VERBOSE_ON),
        mkl.verbose(mkl.VERBOSE_ON),
    ):  # fmt: skip
        yield lambda: from_log(lines(), CAPABILITIES.get(capability, capability))


def from_log(lines: list[str], vectors: str | None) -> str | None:
    """Lines of oneDNN and MKL, the vectors that MKL uses  ->  the widest instructions."""
    calls = [line.split(",") for line in lines if line.startswith("onednn_verbose,")]
    used = {call[6] for call in calls if len(call) > 6 and call[3] == "exec"
            and call[5] in PRODUCTS}  # fmt: skip
    for pattern, name in WIDEST:
        if any(re.search(pattern, implementation) for implementation in used):
            return name
    return vectors if any(re.match("MKL_VERBOSE [SD]GEMM", line) for line in lines) else None


@contextmanager
def _output_of_libraries():
    """`with … as lines:` C libraries write their standard output to a file; lines() reads it."""
    libc = ctypes.CDLL(None)
    with tempfile.TemporaryFile() as file:

        def lines():
            libc.fflush(None)
            file.seek(0)
            return file.read().decode("utf-8", "replace").splitlines()

        sys.stdout.flush()
        libc.fflush(None)
        standard = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield lines
        finally:
            libc.fflush(None)
            os.dup2(standard, 1)
            os.close(standard)


def numpy_products() -> str | None:
    """What NumPy's own OpenBLAS runs on; None for another library."""
    for path in Path(np.__file__).parent.parent.glob("numpy.libs/libscipy_openblas64_*.so"):
        core_name = ctypes.CDLL(path).scipy_openblas_get_corename64_
        core_name.restype = ctypes.c_char_p
        name = core_name().decode()
        return CORES.get(name, name)
    return None
