# %% [markdown]
# # 11 · The road to the machine's peak
#
# The same 2·M·N·K operations, in the same language, can take ten thousand times longer or shorter.
# This chapter develops three nested loops into the kernel that this library uses, and names the
# bottleneck at each step.
#
# Read beside `minidistil/ops/kernels/matmul.py` and `minidistil/ops/kernels/register_tile.py`.

# %%
# Installs missing packages. In Colab, SOURCE says where the project lies:
# "minidistil[demo] @ git+https://…", or the name of the zip that you uploaded.
import importlib.util
import subprocess
import sys

SOURCE = "..[demo]"
if not all(importlib.util.find_spec(name) for name in ("minidistil", "matplotlib")):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)
    importlib.invalidate_caches()

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from numba import njit

import minidistil as md
from minidistil import lesson
from minidistil.lesson import check
from minidistil.ops.kernels import matmul, register_tile
from minidistil.ops.runtime import cpu

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
n = lesson.size(512, 96)
A, B = (rng.standard_normal((n, n)).astype(np.float32) for _ in range(2))
exact = A.astype(np.float64) @ B
BUDGET = lesson.size(0.8, 0.0)  # seconds
speed = {}  # GFLOP/s: billions of multiplications and additions a second


def seconds(function):
    """The best of the runs that fit into BUDGET; the first, which may compile, does not count."""
    function()
    best, end = float("inf"), time.perf_counter() + BUDGET
    while True:
        begin = time.perf_counter()
        function()
        now = time.perf_counter()
        best = min(best, now - begin)
        if now >= end:
            return best


def measure(name, product, a=A, b=B):
    """How fast, and whether it is right at all."""
    error = md.testing.rms(product(a, b) - a.astype(np.float64) @ b)
    assert error < 1e-3, error
    speed[name] = 2 * a.shape[0] * a.shape[1] * b.shape[1] / seconds(lambda: product(a, b)) / 1e9
    print(f"{name:34s} {speed[name]:9.3f} GFLOP/s")


# %% [markdown]
# ## 1. Three loops in Python
#
# $$C_{ij} = \sum_k A_{ik} B_{kj}$$
#
# Each multiplication costs some hundred instructions of the interpreter. We do not wait for 512³ of
# them.


# %%
def three_loops(a, b):
    c = np.zeros((len(a), b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


small = lesson.size(64, 16)
measure("1 loops in Python", three_loops, A[:small, :small], B[:small, :small])

# %% [markdown]
# ## 2. The same loops, compiled
#
# Numba compiles the very same function. Now the processor mostly waits for memory: the
# innermost loop runs down a *column* of $B$, and each step reads another cache line.

# %%
ijk = njit(three_loops, fastmath=cpu.FASTMATH)
measure("2 compiled, order i j k", ijk)

# %% [markdown]
# ## 3. Another order
#
# Swap two lines. The innermost loop now runs along a row of $B$ and a row of $C$: neighbours in
# memory, so the compiler takes eight at a time. Nothing else has changed.


# %%
@njit(fastmath=cpu.FASTMATH)
def ikj(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


measure("3 order i k j", ikj)

# %% [markdown]
# ## 4. Blocks that fit the cache
#
# For every row of $A$ all of $B$ passes by: a megabyte at $n = 512$. Cut $B$ into blocks that stay
# in the first-level cache while all rows of $A$ pass. As long as $B$ fits the second-level cache,
# this changes little; it is what keeps the speed when matrices grow.


# %%
@njit(fastmath=cpu.FASTMATH)
def blocks(a, b):
    M, K, N = a.shape[0], a.shape[1], b.shape[1]
    c = np.zeros((M, N), np.float32)
    for k0 in range(0, K, 64):
        for j0 in range(0, N, 128):
            for i in range(M):
                out = c[i, j0 : j0 + 128]
                for k in range(k0, min(k0 + 64, K)):
                    row, x = b[k, j0 : j0 + 128], a[i, k]
                    for j in range(len(row)):
                        out[j] += x * row[j]
    return c


measure("4 blocks", blocks)

# %% [markdown]
# ## 5. Sums that stay in registers
#
# What is still wrong: each multiply-add loads an entry of $C$, loads one of $B$ and stores one of
# $C$. The units that multiply are idle while the units that load are busy. So take several rows at
# once: an entry of $B$, once loaded, is used for four of them.


# %%
@njit(fastmath=cpu.FASTMATH)
def four_rows(a, b):
    M, K, N = a.shape[0], a.shape[1], b.shape[1]
    c = np.zeros((M, N), np.float32)
    for k0 in range(0, K, 64):
        for i in range(0, M, 4):
            for k in range(k0, min(k0 + 64, K), 2):
                for j in range(N):
                    x, y = b[k, j], b[k + 1, j]
                    c[i, j] += a[i, k] * x + a[i, k + 1] * y
                    c[i + 1, j] += a[i + 1, k] * x + a[i + 1, k + 1] * y
                    c[i + 2, j] += a[i + 2, k] * x + a[i + 2, k + 1] * y
                    c[i + 3, j] += a[i + 3, k] * x + a[i + 3, k + 1] * y
    return c


measure("5 four rows, two steps at once", four_rows)

# %% [markdown]
# ## 6. A tile that never leaves the registers
#
# The end of this road: a *tile* of $MR\times NR$ entries of $C$ lives in vector registers for 256
# steps and is written once. Step $k$ loads $MR + NR$ numbers and does $MR\cdot NR$ multiply-adds:

# %%
MR, NR = register_tile.MR, register_tile.NR
fig, ax = plt.subplots(figsize=(6, 2.9))
ax.add_patch(plt.Rectangle((0, 0), NR, MR, facecolor="#5F9ED1", alpha=0.5, edgecolor="black"))
ax.add_patch(plt.Rectangle((0, MR + 1), NR, 1, facecolor="#FFBC79", edgecolor="black"))
ax.add_patch(plt.Rectangle((-2, 0), 1, MR, facecolor="#FFBC79", edgecolor="black"))
ax.text(NR / 2, MR / 2, f"{MR} × {NR} sums in registers", ha="center", va="center")
ax.text(NR / 2, MR + 2.4, f"step k: a row of B, {NR} loads", ha="center")
ax.text(-2.3, MR / 2, f"step k: a column\nof A, {MR} loads", ha="right", va="center")
ax.set(xlim=(-9, NR + 1), ylim=(-0.5, MR + 3.6), aspect="equal")
ax.axis("off")
plt.show()
print(f"multiply-adds for each number loaded: {MR * NR / (MR + NR):.1f}")

# %% [markdown]
# A compiler does not find this by itself, so the library writes the loop over $k$ as vector
# instructions (`kernels/register_tile.py`), and everything around it only feeds it: both factors
# are first copied into *panels* that the tile reads from front to back (`kernels/matmul.py` has the
# picture).

# %%
with cpu.threads(1):
    measure("6 the library's tile, one thread", matmul.matmul)
cores = cpu.get_num_threads()
measure(f"7 the library, {cores} threads", matmul.matmul)

# %% [markdown]
# For comparison NumPy's own product, which is OpenBLAS or Intel's MKL: decades of work, in
# assembly. Also on one thread, for which it has to start in a process of its own.

# %%
blas = f"""
import time, numpy as np
a = np.random.default_rng(0).standard_normal(({n}, {n})).astype(np.float32)
a @ a
best, end = 9.0, time.perf_counter() + {BUDGET}
while True:
    begin = time.perf_counter(); a @ a; now = time.perf_counter()
    best = min(best, now - begin)
    if now >= end: break
print(2 * {n}**3 / best / 1e9)
"""
one = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
done = subprocess.run([sys.executable, "-c", blas], env=one, capture_output=True, check=True)
speed["8 NumPy's BLAS, one thread"] = float(done.stdout)
print(f"8 NumPy's BLAS, one thread {float(done.stdout):17.3f} GFLOP/s")

# %% [markdown]
# ## How fast could it be?
#
# The tile alone, on panels that never leave the first-level cache, is as fast as one core of this
# machine gets. (Another program on the same core counts against it, here and above.)


# %%
@njit
def only_tiles(times, a, b, c, zeros):
    for _ in range(times):
        register_tile.tile(register_tile.PackedTile(256, a, b, c, 4 * NR, 0, zeros))


panels = [rng.standard_normal(size).astype(np.float32) for size in (256 * MR, 256 * NR, MR * NR)]
zeros, times = np.zeros(NR, np.float32), lesson.size(1000, 100)
where = [x.ctypes.data for x in (*panels, zeros)]
peak = 2 * 256 * MR * NR * times / seconds(lambda: only_tiles(times, *where)) / 1e9
reached = speed["6 the library's tile, one thread"] / peak
print(f"peak of a core {peak:.1f} GFLOP/s; the library's product reaches {reached:.0%} of it")

# %%
fig, ax = plt.subplots(figsize=(7.5, 3.4))
names = list(speed)[::-1]
bars = ax.barh(names, [speed[name] for name in names], color="#5F9ED1", log=True)
ax.bar_label(bars, [f"{speed[name]:.3g}" for name in names], padding=3)
ax.axvline(peak, color="#C85200", linestyle="--", linewidth=1.5)
ax.annotate("peak of a core", (peak, len(names) - 0.4), color="#C85200", ha="right")
ax.set(xlabel="GFLOP/s, logarithmic", xlim=(None, 8 * max(speed.values())))
plt.show()

# %% [markdown]
# ## The roofline: what is worth making faster
#
# An op needs arithmetic and traffic. Divide its operations by the bytes that it has to move, its
# *intensity*; then it can be no faster than
#
# $$\min(\text{peak},\; \text{intensity}\cdot\text{bandwidth}).$$
#
# A sum does one operation for 12 bytes: no cleverness helps but moving less, which is why the
# library fuses it with LayerNorm. A product of $n\times n$ matrices does $2n^3$ operations for
# $12n^2$ bytes: it leaves the slope behind as soon as $n$ is large.

# %%
large = rng.standard_normal(lesson.size(2**24, 2**12)).astype(np.float32)
target = np.empty_like(large)
bandwidth = 2 * large.nbytes / seconds(lambda: np.copyto(target, large)) / 1e9  # GB/s
rows, C = lesson.size(16_384, 64), 256
x, z = (rng.standard_normal((rows, C)).astype(np.float32) for _ in range(2))
gamma, beta = np.ones(C, np.float32), np.zeros(C, np.float32)
ops, points = md.backend("cpu"), {}
with cpu.threads(1):
    for name, flops, words, call in (
        ("add", 1, 3, lambda: ops.add.forward(x, z)),
        ("layernorm", 8, 3, lambda: ops.layernorm.forward(x, gamma, beta)),
        ("gelu", 40, 2, lambda: ops.gelu.forward(x)),
    ):
        points[name] = (flops / (4 * words), flops * x.size / seconds(call) / 1e9)
    for m in (16, 64, lesson.size(512, 96)):
        a, b = A[:m, :m].copy(), B[:m, :m].copy()
        rate = 2 * m**3 / seconds(lambda a=a, b=b: matmul.matmul(a, b)) / 1e9
        points[f"product, n = {m}"] = (m / 6, rate)

intensity = np.logspace(-1.5, 2.5, 100)
fig, ax = plt.subplots(figsize=(7.5, 3.6))
ax.loglog(intensity, np.minimum(peak, intensity * bandwidth), color="0.4")
for name, (at, rate) in points.items():
    ax.loglog(at, rate, "o", color="#006BA4")
    ax.annotate(name, (at, rate), xytext=(6, -11), textcoords="offset points", fontsize=9)
ax.set(xlabel="operations for each byte that has to move", ylabel="GFLOP/s on one core",
       title=f"roof: {bandwidth:.0f} GB/s, then {peak:.0f} GFLOP/s", xlim=(0.03, 2000),
       ylim=(0.1, 4 * peak))  # fmt: skip
plt.show()

# %% [markdown]
# A point above the slope is no mistake: what was just written still lies in a cache, which is
# faster than memory. And a point far below the roof is where work would pay.
#
# ## Exercise 1: intensity of a tile
#
# A tile of $m\times n$ sums does $2mn$ operations in a step and loads $m+n$ floats of 4 bytes.
# Write its intensity, and find with it why $6\times16$ beats $12\times8$, both 96 sums, and what a
# square tile would give.


# %%
def tile_intensity(m, n):
    """Rows and columns of a tile  ->  operations for each byte that is loaded."""


# %%
def right_tile_intensity(m, n):
    return 2 * m * n / (4 * (m + n))


check(
    tile_intensity, right_tile_intensity, 6.0, 16.0,
    mistakes={
        "a float has 4 bytes": lambda m, n: 2 * m * n / (m + n),
        "a multiply-add is two operations": lambda m, n: m * n / (4 * (m + n)),
        "the sums stay in registers, they are not loaded": lambda m, n: (
            2 * m * n / (4 * (m + n + m * n))
        ),
    },
)  # fmt: skip

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def tile_intensity(m, n):
#     return 2 * m * n / (4 * (m + n))
# ```
#
# $6\times16$: 2.18, $12\times8$: 2.4, $10\times10$: 2.5. By this count alone the squarer tile wins.
# But a row of $B$ is loaded in vectors of eight floats and each entry of $A$ on its own, so what
# counts is $m + n/8$ loads for $mn/8$ multiply-adds: 8 against 13 loads for the same 12 vectors.
#
# </details>
#
# ## Exercise 2: the blocked sum
#
# Write the product as a sum over blocks of $k$: the blocks' products, added up. $K$ need not be a
# multiple of the block.


# %%
def in_blocks(a, b, block):
    """a (M,K), b (K,N)  ->  (M,N), `block` steps of k at a time."""


# %%
def right_in_blocks(a, b, block):
    return a @ b


def overwritten(a, b, block):
    last = (a.shape[1] - 1) // block * block
    return a[:, last:] @ b[last:]


def cut_off(a, b, block):
    whole = a.shape[1] // block * block
    return a[:, :whole] @ b[:whole]


check(
    in_blocks, right_in_blocks, rng.standard_normal((4, 10)), rng.standard_normal((10, 3)), 4,
    mistakes={
        "each block replaces the sum: add to it": overwritten,
        "the last block is shorter, and is missing": cut_off,
        "only the first block is there": lambda a, b, block: a[:, :block] @ b[:block],
    },
)  # fmt: skip

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def in_blocks(a, b, block):
#     c = np.zeros((len(a), b.shape[1]))
#     for k in range(0, a.shape[1], block):
#         c += a[:, k : k + block] @ b[k : k + block]
#     return c
# ```
#
# The order of the sum is part of the result, in the last digits: the library keeps it the same on
# every machine and with every number of threads.
#
# </details>
