# %% [markdown]
# # 10 · One op, three implementations
#
# [← 9 a student learns](09_student.ipynb) ·
# [11 the road to the machine's peak →](11_matmul.ipynb) ·
# about 45 minutes
#
# Every op of this library has three implementations: NumPy, which is easy to read, and Numba
# kernels for processors and for graphics cards, which are fast. This chapter compares them, steps
# through them with a debugger, and explains why the fast ones are written as they are.
#
# **Question:** a sum of float32 numbers depends on the order of the additions. Can it have the same
# bits on one core and on eight?
#
# Code: [`ops/__init__.py`](../minidistil/ops/__init__.py) ·
# [`ops/runtime/cpu.py`](../minidistil/ops/runtime/cpu.py)

# %%
# Finds minidistil, or installs it from its zip or wheel in this folder, or from this clone.
import importlib.util
import subprocess
import sys
from pathlib import Path

needed = "minidistil", "matplotlib", "greenlet"
specs = [importlib.util.find_spec(name) for name in needed]
if any(spec is None or spec.origin is None for spec in specs):  # no origin: a left-over folder
    clone = (toml.parent for toml in Path("..").glob("pyproject.toml"))
    sources = [*Path().glob("minidistil*.[wz]*"), *clone]
    if not sources:
        here = "Colab's files, at the left edge" if "google.colab" in sys.modules else Path.cwd()
        raise ModuleNotFoundError(f"put minidistil's zip into {here}, then run this cell again")
    install = [sys.executable, "-m", "pip", "install", "--quiet", f"{sources[0]}[demo]"]
    subprocess.run(install, check=True)
    importlib.invalidate_caches()

# %%
import bdb
import inspect
import linecache
import os
import time

import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson
from minidistil.ops import layernorm
from minidistil.ops.runtime import cpu

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
BUDGET = lesson.size(0.3, 0.0)  # seconds for each measurement

# %% [markdown]
# ## The same op twice
#
# The NumPy pair is the *specification*: if a kernel disagrees with it, the kernel is wrong. It
# computes with whole arrays. The kernel computes row by row, with explicit loops.

# %%
print(inspect.getsource(layernorm.forward))
print(inspect.getsource(layernorm._forward_rows.py_func))

# %% [markdown]
# Both are reached through `md.backend` and have one signature. There is no silent fallback: a
# missing backend is an error.

# %%
x = rng.standard_normal((4, 6)).astype(np.float32)
gamma, beta = np.ones(6, np.float32), np.zeros(6, np.float32)
answers = {name: md.backend(name).layernorm.forward(x, gamma, beta)[0] for name in ("numpy", "cpu")}
print("largest difference:", np.abs(answers["numpy"] - answers["cpu"]).max())
try:
    md.backend("abacus")
except ValueError as error:
    print("ValueError:", str(error).split(";")[0])

# %% [markdown]
# ## Step through the specification
#
# In an editor you would set a breakpoint in `layernorm.py`. Here the standard library's debugger
# (`bdb`, the base of `pdb`) does it: it stops at every line of one function and prints the
# variables that the previous line changed.


# %%
class Walk(bdb.Bdb):
    """Runs a function and prints its lines, each followed by the variables that it has changed."""

    def __init__(self, function, show, limit=None):
        super().__init__()
        self.code, self.show, self.limit = function.__code__, show, limit
        self.known, self.lines = {}, 0
        self.answer = self.runcall(function, *show.pop("arguments"), **show.pop("options", {}))

    def user_line(self, frame):
        if frame.f_code is not self.code:
            return
        self.report(frame)
        self.lines += 1
        if self.limit is None or self.lines <= self.limit:
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            print(f"{frame.f_lineno:4d}  {text}")

    def user_return(self, frame, value):
        if frame.f_code is self.code:
            self.report(frame)

    def report(self, frame):
        quiet = self.limit is not None and self.lines > self.limit
        for name, value in frame.f_locals.items():
            text = describe(value)
            if self.known.get(name) != text:
                self.known[name] = text
                if not quiet:
                    print(f"          {name} = {text}")


def describe(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}  {np.array2string(value.ravel()[:4], precision=2)}"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


two = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 9.0]])
_ = Walk(layernorm.forward, {"arguments": (two, np.ones(3), np.zeros(3))})

# %% [markdown]
# ## Step through the kernel
#
# A compiled kernel cannot be stepped, but Numba keeps the Python function it was made from, under
# `py_func`, and that runs as it is: `prange` is `range` there. So any kernel of this library can be
# walked through, number by number. The first lines of the first row:

# %%
y, xhat, rstd = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 1))
walk = {"arguments": (two, np.ones(3), np.zeros(3), 1e-12, y, xhat, rstd)}
_ = Walk(layernorm._forward_rows.py_func, walk, limit=14)
assert np.allclose(y, layernorm.forward(two, np.ones(3), np.zeros(3))[0])

# %% [markdown]
# (To step in your own editor without compiling anything, start Python with `NUMBA_DISABLE_JIT=1`.)
#
# ## What the kernel is for
#
# NumPy goes through memory once for each operation: mean, difference, square, mean, root, product.
# The kernel goes through a row while it lies in the cache, and rows are shared among cores.


# %%
def seconds(function):
    function()
    best, end = float("inf"), time.perf_counter() + BUDGET
    while True:
        begin = time.perf_counter()
        function()
        now = time.perf_counter()
        best = min(best, now - begin)
        if now >= end:
            return best


counts = [16, 64, 256, 1024, 4096] if lesson.size(True, False) else [16, 64]
C = 256
fig, axes = plt.subplots(1, 2, figsize=(8, 3))
for ax, op in zip(axes, ("layernorm", "gelu"), strict=True):
    for name, marker in (("numpy", "o"), ("cpu", "s")):
        forward = getattr(md.backend(name), op).forward
        times = []
        for N in counts:
            a = rng.standard_normal((N, C)).astype(np.float32)
            args = (a, np.ones(C, np.float32), np.zeros(C, np.float32))
            args = args if op == "layernorm" else args[:1]
            times.append(1e6 * seconds(lambda f=forward, args=args: f(*args)))
        ax.loglog(counts, times, marker=marker, label=name)
    ax.set(title=f"{op}, {C} channels", xlabel="rows", ylabel="microseconds")
    ax.legend()
plt.show()

# %% [markdown]
# ## One writer for each cell
#
# `dbeta[c]` is a sum over rows. If two cores each take a row and both execute
# `dbeta[c] += dy[n, c]`, then both may read the old value before either has written: one of the two
# additions is lost without an error. A simulation of this race:

# %%
cell, lost = 0.0, 0
for _ in range(1000):
    if rng.random() < 0.3:  # a race
        core_a, core_b = cell, cell  # both read
        cell = core_a + 1
        cell = core_b + 1  # this write overwrites the one before
        lost += 1
    else:
        cell += 1
        cell += 1
print(f"2000 additions of 1 make {cell:.0f}; {lost} were lost")

# %% [markdown]
# So rows are split into a *fixed* number of chunks, each chunk has its own row of partial sums, and
# the partial sums are added at the end. Fixed, because float addition is not
# associative: with as many chunks as cores, a sum would depend on the machine.

# %%
dy = rng.standard_normal((10_000, 1)).astype(np.float32)
for chunks in (1, 2, 4, 16):
    parts = [part.sum(dtype=np.float32) for part in np.array_split(dy, chunks)]
    total = np.float32(0)
    for part in parts:
        total += part
    print(f"{chunks:2d} chunks: {total:.7f}")

big = rng.standard_normal((999, 64)).astype(np.float32)
kernel = md.backend("cpu").layernorm
_, cache = kernel.forward(big, np.ones(64, np.float32), np.zeros(64, np.float32))
bits = []
for threads in range(1, cpu.get_num_threads() + 1):
    with cpu.threads(threads):
        bits.append(kernel.backward(big, cache)[2].tobytes())
# measured here: how many threads there are
print(f"the library on 1 to {len(bits)} threads: {len(set(bits))} different result")
assert len(set(bits)) == 1

# %% [markdown]
# ## Random numbers without stored state
#
# Dropout is the other place where backends could drift apart. Its mask is a pure function of a
# seed, the step and the place of a value, so every backend draws the same one, and the backward
# draws it again instead of keeping it.

# %%
config = md.DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32,
                             max_position_embeddings=16, dropout=0.5)  # fmt: skip
ids = rng.integers(5, 50, (2, 8))
losses = {}
for name in ("numpy", "cpu"):
    model = md.from_config(config, task="fill-mask", seed=0).with_ops(md.backend(name))
    losses[name] = [
        model.forward(ids, labels=ids, train=True, seed=7, step=step).loss for step in (0, 1, 0)
    ]
    print(name, ", ".join(f"{loss:.6f}" for loss in losses[name]))
assert np.allclose(losses["numpy"], losses["cpu"], atol=1e-5)

# %% [markdown]
# Step 0, step 1, step 0 again: the same on both.
#
# ## The third implementation: CUDA, without a GPU
#
# On a graphics card thousands of threads run one kernel, each with its own number. Threads of a
# *block* share a little fast memory and can wait for each other at a barrier. Numba's simulator
# runs the same source as Python, one thread after another, so it can print and be debugged. It must
# be selected before Numba is imported, hence the separate process.
#
# First a kernel made for looking at: four threads add up eight numbers, halving the number of
# adders each time. Without the barriers a thread could read what its neighbour has not written yet.

# %%
first_kernel = """
import numpy as np
from minidistil.ops.runtime.cuda import cuda, cuda_kernel, device_zeros, float32, to_device, to_host


@cuda_kernel
def block_total(x, total):
    sums, t = cuda.shared.array(4, float32), cuda.threadIdx.x
    sums[t] = x[t] + x[t + 4]
    print(f"thread {t} writes sums[{t}] = {sums[t]:g}")
    cuda.syncthreads()
    width = 2
    while width:
        if t < width:
            sums[t] += sums[t + width]
            print(f"thread {t} adds sums[{t + width}] to sums[{t}]: {sums[t]:g}")
        cuda.syncthreads()
        width //= 2
    if t == 0:
        total[0] = sums[0]


total = device_zeros(1)
block_total[1, 4](to_device(np.arange(8, dtype=np.float32)), total)
print("total", to_host(total)[0], "of", list(range(8)))
"""


def simulate(program):
    """Run a program in the simulator  ->  what it printed."""
    if importlib.util.find_spec("greenlet") is None:
        return "the simulator needs greenlet: pip install greenlet"
    simulator = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=simulator, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


print(simulate(first_kernel))

# %% [markdown]
# The library's kernels are made of these pieces. The column sums of `linear`, for one: the same
# fixed chunks as on the processor, a block for each, so the same law holds, one writer for each
# cell.

# %%
from minidistil.ops import linear

print(inspect.getsource(linear._sum_chunks_kernel.function))
library = """
import numpy as np
from minidistil.ops import gelu, linear
from minidistil.ops.runtime.cuda import to_device, to_host

x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
sums = to_host(linear.column_sums_cuda(to_device(x)))
print("column sums are right:", np.allclose(sums, x.sum(axis=0), atol=1e-5))
y, _ = gelu.forward_cuda(to_device(x))
print("gelu is right:       ", np.allclose(to_host(y), gelu.forward(x)[0], atol=1e-6))
"""
answer = simulate(library)
print(answer)
assert "False" not in answer

# %% [markdown]
# And a whole model: with `backend="cuda"` its parameters, activations and gradients live on the
# device, and the host sees a batch go in and numbers come out. The same loss, the same gradients:

# %%
model = """
import numpy as np
import minidistil as md

config = md.DistilBertConfig(vocab_size=12, dim=8, n_layers=1, n_heads=2, hidden_dim=8,
                             max_position_embeddings=4)
ids = np.array([[5, 6, 7]])
for name in ("numpy", "cuda"):
    model = md.from_config(config, task="fill-mask", backend=name)
    out = model.forward(ids, labels=ids)
    grads = model.backward(out)
    size = np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads.values()))
    print(f"{name:5s}  loss {out.loss:.5f}  norm of all gradients {size:.5f}")
"""
answer = simulate(model)
print(answer)
if "loss" in answer:
    specification, kernels = (line.split(maxsplit=1)[1] for line in answer.splitlines())
    assert specification == kernels

# %% [markdown]
# ## Exercise 1: partial sums
#
# Write the sums over rows in chunks: chunk $k$ of $K$ has the rows $\lfloor kN/K\rfloor$ to
# $\lfloor (k+1)N/K\rfloor$. $N$ need not be a multiple of $K$.


# %%
def partial_sums(dy, K):
    """dy (N,C), K chunks  ->  (K,C), whose sum over the chunks is dy.sum(axis=0)."""


# %%
lesson.check("partial_sums", partial_sums)

# %% [markdown]
# ## Exercise 2: step through a backward
#
# Without code: call `Walk` on `layernorm._backward_chunks.py_func` with the cache of `two`, and
# find the moment in which a row's gradient loses what points along 1.

# %% [markdown]
# ## Summary
#
# * NumPy specifies, kernels compute; both have one signature and are compared with float64.
# * Chunks are fixed and each cell has one writer, so a sum has the same bits on any number of
#   cores.
# * The CUDA kernels run in Numba's simulator, one thread after another, and can be debugged there.
#
# [← 9 a student learns](09_student.ipynb) ·
# [11 the road to the machine's peak →](11_matmul.ipynb)
