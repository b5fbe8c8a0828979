"""Reports of results that depended on where a kernel's machine code came from.

To compile every kernel takes a processor more than half a minute, so that is left to .ci/run, which
sets EVERY_KERNEL; otherwise the ops that differed stand for all of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE / "every_kernel.py"
EVERY = "EVERY_KERNEL" in os.environ
OPS = () if EVERY else ("cross_entropy", "relation")
CALLERS = ("matmul._together", "cross_entropy._backward_rows")  # call other kernels and helpers


def run(cache, out):
    """What every_kernel.py found in a process of its own."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(HERE.parent)}
    subprocess.run([sys.executable, SCRIPT, out, *OPS], check=True, env=env)
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three processes: nothing compiled before, everything, everything but some callers."""
    folder = tmp_path_factory.mktemp("kernels")
    cache = folder / "cache"
    compiled, loaded = (run(cache, folder / name) for name in ("compiled", "loaded"))
    callers = [path for name in CALLERS for path in cache.rglob(f"*{name}*")]
    for path in callers:
        path.unlink()
    return {"compiled": compiled, "loaded": loaded, "mixed": run(cache, folder / "mixed"),
            "callers": len(callers)}  # fmt: skip


def differing(one, other):
    return [name for name, digest in one["results"].items() if other["results"][name] != digest]


def test_every_kernel_is_seen_in_both_states(runs):
    """Was: no test met a kernel that is compiled and the same one loaded from the cache.
    Right: the first process compiles all kernels, the second none, the third those removed."""
    assert runs["compiled"]["compiled"] >= (30 if EVERY else 3)
    assert not EVERY or runs["compiled"]["left"] == []
    assert runs["loaded"]["compiled"] == 0
    assert runs["mixed"]["compiled"] == runs["callers"] >= (3 if EVERY else 1)


def test_the_first_run_gives_the_bits_of_all_later_ones(runs):
    """Was: 16 of 816 results differed (cross_entropy, vocabulary, relation, all backward).
    Right: equal bits, so that a run repeats and resumes; design rule 12."""
    assert differing(runs["compiled"], runs["loaded"]) == []


def test_a_kernel_compiled_from_loaded_functions_gives_them_too(runs):
    """Was: a first run that was killed equalled neither a first run nor a later one.
    Right: equal bits whatever a cache already holds."""
    assert differing(runs["compiled"], runs["mixed"]) == []


@pytest.mark.parametrize("state", ["compiled", "loaded", "mixed"])
def test_one_thread_gives_the_bits_of_two(runs, state):
    """Was: products and attention on one thread ran another copy of their code than on two.
    Right: equal bits; they run one kernel."""
    results = runs[state]["results"]
    other = {name: results[name.replace(" on 1", " on 2")] for name in results}
    assert [name for name, digest in results.items() if other[name] != digest] == []
