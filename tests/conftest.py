"""Before anything imports Numba: where compiled kernels are kept, and two threads at least."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Not beside the sources, so that a checkout stays clean.
KERNELS = Path(tempfile.gettempdir()) / f"minidistil-tests-{os.getuid()}"
os.environ.setdefault("NUMBA_CACHE_DIR", str(KERNELS))
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 2)))

# Kernels compile at their first call, which no deadline should punish; the same examples each time,
# so that a failure is one for everybody; no folder of examples in the checkout.
settings.register_profile(
    "minidistil", deadline=None, derandomize=True, database=None, max_examples=50
)
settings.load_profile("minidistil")


def pytest_addoption(parser):
    parser.addoption(
        "--long", type=float, metavar="MINUTES", help="how long tests/fuzz tries new commands"
    )


@pytest.fixture(scope="module", params=["amx", "vectors"])
def unit(request):
    """What multiplies matrices: AMX, where this process has it, or vector instructions."""
    from minidistil.ops.runtime import amx

    if request.param == "amx" and amx.refusal():
        pytest.skip(amx.refusal())
    with amx.without_amx(request.param == "vectors"):
        yield request.param


def pytest_collection_modifyitems(items):
    """Kernels are launched where there is something to launch them on, compiled where there is a
    compiler for them."""
    from minidistil.ops.runtime.cuda import SIMULATED, can_compile, has_device

    needs = {
        "gpu": (not SIMULATED and has_device(), "no CUDA device"),
        "cuda": (SIMULATED or has_device(), "no CUDA device; NUMBA_ENABLE_CUDASIM=1 simulates one"),
        "ptx": (not SIMULATED and can_compile(), "no numba-cuda[cu13] that compiles"),
    }
    for item in items:
        for name, (there, reason) in needs.items():
            if not there and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
