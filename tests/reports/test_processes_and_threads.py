"""Reports of kernels in the child of a fork, and in two threads at once."""

import os
import subprocess
import sys

import pytest

START = """
import os, sys, threading
import numpy as np
from minidistil.ops import add, linear

rng = np.random.default_rng(0)
x, w, b = (rng.normal(size=size).astype("f") for size in ((96, 64), (64, 64), (64,)))

def numbers():
    return linear.forward_cpu(x, w, b)[0].tobytes() + add.forward_cpu(x, x)[0].tobytes()

def child():
    # What a forked process computes; os._exit, so that it runs none of the parent's code.
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, numbers())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        found = pipe.read()
    return found, os.wait()[1]
"""
FORK_AFTER_USE = """
expected = numbers()
assert child() == (expected, 0)
assert numbers() == expected
"""
FORK_BEFORE_USE = """
found, status = child()
assert status == 0 and found == numbers()
"""
POOL = """
import multiprocessing

def work(i):
    return numbers()

expected = numbers()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(4)) == [expected] * 4
"""
THREADS = """
expected, wrong = numbers(), []

def work():
    for _ in range(300):
        if numbers() != expected:
            wrong.append(1)

workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert not wrong
"""
LAYERS = ("omp", "workqueue")  # that Numba brings along


def run(script, layer):
    env = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", START + script]  # 3.12 warns of any fork
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"no {layer} here")
    assert (done.returncode, done.stderr) == (0, "")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
on_each_layer = pytest.mark.parametrize("layer", LAYERS)


@forks
@on_each_layer
def test_a_fork_after_use(layer):
    """Was: the child ended by SIGTERM (omp) or waited for ever (workqueue).
    Right: the same bits as the parent's; the child computes on the one thread that it has."""
    run(FORK_AFTER_USE, layer)


@forks
@on_each_layer
def test_a_fork_before_use(layer):
    """Was: right already.
    Right: the child starts threads of its own."""
    run(FORK_BEFORE_USE, layer)


@forks
@on_each_layer
def test_a_pool_of_forked_processes(layer):
    """Was: multiprocessing.Pool replaced each child that died, and waited for ever.
    Right: a pool of forked processes predicts what the parent does."""
    run(POOL, layer)


@on_each_layer
def test_several_threads_at_once(layer):
    """Was: "Terminating: Concurrent access has been detected", SIGABRT (workqueue).
    Right: one of them has the team of threads, the others compute alone; the bits are equal."""
    run(THREADS, layer)
