"""The kernels' tests on processors with less than this one: `python tests/processors.py`.

Numba compiles for the processor and the features that its environment names, so a machine with
AVX-512 also runs what is made for AVX2 or for any x86-64. Beside them, on the features that are
here, every kernel is compiled in one process and loaded in another (tests/reports). Two of these
runs at a time take two cores about three minutes, nearly all of it the compiler's.
"""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llvmlite.binding as llvm

TESTS = Path(__file__).parent
AVX2 = ("sse2", "avx", "avx2", "fma")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")  # no VNNI, no bfloat16
PROCESSORS = {"x86-64": ("sse2",), "haswell": AVX2, "skylake-avx512": AVX512}  # LLVM's names
FILES = [f"ops/test_{name}.py" for name in (
    "cpu", "matmul", "matmul_narrow", "amx_tile", "amx_matmul", "linear_gelu", "linear_int8",
    "linear_bf16", "peak", "attention", "attention_bf16", "layernorm", "cross_entropy", "kl_div",
    "laws",
)]  # fmt: skip
# Comparisons with PyTorch's numbers and of derivatives say nothing about a processor.
CHOICE = "not parity and not transpose"


def runs():
    """{what: (arguments of pytest, what the environment adds)} on this machine."""
    found = {"every kernel": (["reports/test_compiled_or_loaded.py"], {"EVERY_KERNEL": "1"})}
    here = llvm.get_host_cpu_features()
    for name, features in PROCESSORS.items():
        if platform.machine() in ("x86_64", "AMD64") and all(here.get(x) for x in features):
            listed = ",".join(f"+{feature}" for feature in features)
            masks = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": listed}
            found[name] = [*FILES, "-k", CHOICE], masks
    return found


def run(arguments, added):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    env = os.environ | added
    return subprocess.run(command, cwd=TESTS, env=env, capture_output=True, text=True)


def main():
    """0 where all pass; the output of those that do not."""
    failed, found = 0, runs()
    with ThreadPoolExecutor(2) as pool:
        done = {name: pool.submit(run, *how) for name, how in found.items()}
        for name, result in done.items():
            result = result.result()
            last = result.stdout.strip().splitlines()[-1:]
            print(f"{name}: {'passed' if result.returncode == 0 else 'failed'} {last}", flush=True)
            if result.returncode:
                failed = 1
                print(result.stdout, result.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
