"""The machine of the benchmark, and separate processes with equal settings."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HOLDS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # NumPy's BLAS then ignores the processor
THREADS = "OPENBLAS_NUM_THREADS"  # which it reads once, when NumPy is imported
TELLING = (
    "avx2", "fma", "avx512f", "avx512bf16", "avx512vnni", "avxvnni", "amx-bf16", "amx-int8", "neon",
    "bf16", "i8mm",
)  # fmt: skip
PACKAGES = ("minidistil", "numpy", "numba", "torch", "transformers", "onnxruntime")


def even(environment, threads):
    """An environment in which NumPy's BLAS uses all instructions of the processor, and as many
    threads as the other contestants."""
    kept = {name: value for name, value in environment.items() if name not in HOLDS_BACK}
    return kept | {THREADS: str(threads)}


def ask(module, threads, **options):
    """The answer of the module's function (see `reply`), computed in a new process.

    Raises ValueError with the line it ends in, ChildProcessError where it was killed.
    """
    command = [sys.executable, "-m", module, json.dumps(options | {"threads": threads})]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=even(os.environ, threads))
    if done.returncode:
        raise ChildProcessError(
            f"{module} ended with exit code {done.returncode}; -9 means: not enough memory"
        )
    found = json.loads(done.stdout)
    if "error" in found:
        raise ValueError(found["error"])
    return found


def reply(function):
    """The counterpart of `ask`: prints the function's answer."""
    try:
        found = function(**json.loads(sys.argv[1]))
    except (ValueError, OSError, ImportError) as error:
        found = {"error": str(error)}
    print(json.dumps(found))


def describe(threads):
    """{what: str, number or list} for the header."""
    from minidistil.ops import instructions
    from minidistil.ops.runtime.cpu import FEATURES, cores

    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": processor(), "system": f"{platform.system()} {platform.machine()}",
        "cores": cores(), "threads": threads,
        "features": [name for name in TELLING if f"+{name}" in FEATURES],
        "instructions": instructions("cpu"), "versions": versions,
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def processor():
    """The processor's name, as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
