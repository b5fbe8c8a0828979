# %% [markdown]
# # 11 · The road to the machine's peak
#
# [← 10 one op, three implementations](10_backends.ipynb) ·
# [12 cross-checking →](12_check.ipynb) ·
# about 90 minutes
#
# The same 2·M·N·K operations, in the same language, can take ten thousand times longer or shorter.
# This chapter develops three nested loops into the kernels that this library uses, and names the
# bottleneck at each step. The road ends at the matrix unit that recent processors have, AMX, and at
# the roofline, which says how far any computation can get on a machine. A machine without AMX runs
# everything here, too: NumPy computes what the unit would.
#
# **Question:** three nested loops in Python compute a right product. By which factor do they miss
# what the machine can do, and which changes win it back?
#
# Code: [`ops/kernels/matmul.py`](../minidistil/ops/kernels/matmul.py) ·
# [`ops/kernels/register_tile.py`](../minidistil/ops/kernels/register_tile.py) ·
# [`ops/kernels/amx_tile.py`](../minidistil/ops/kernels/amx_tile.py) ·
# [`ops/kernels/amx_reference.py`](../minidistil/ops/kernels/amx_reference.py)

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
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from numba import njit

import minidistil as md
from minidistil import lesson
from minidistil.cli.bench import workloads
from minidistil.ops.kernels import (
    amx_peak,
    amx_reference,
    amx_tile,
    matmul,
    peak_cpu,
    register_tile,
)
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.runtime import amx, cpu
from minidistil.testing import rms

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
n = lesson.size(512, 96)
A, B = (rng.standard_normal((n, n)).astype(np.float32) for _ in range(2))
exact = A.astype(np.float64) @ B
BUDGET = lesson.size(0.8, 0.0)  # seconds
speed = {}  # GFLOP/s: billions of multiplications and additions a second


def seconds(function, clock=time.process_time):
    """The best of the runs that fit into BUDGET; the first, which may compile, does not count.

    Processor time: a run is not charged for other programs. On several threads, time on the clock.
    """
    function()
    best, end = float("inf"), clock() + BUDGET
    while True:
        begin = clock()
        function()
        now = clock()
        best = min(best, now - begin)
        if now >= end:
            return best


def measure(name, product, a=A, b=B, clock=time.process_time):
    """How fast, and whether it is right at all."""
    error = rms(product(a, b) - a.astype(np.float64) @ b)
    assert error < 1e-3, error
    operations = 2 * a.shape[0] * a.shape[1] * b.shape[1]
    speed[name] = operations / seconds(lambda: product(a, b), clock) / 1e9
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
measure("1 loops in Python", three_loops, A[:small, :small], B[:small, :small])  # measured here

# %% [markdown]
# ## 2. The same loops, compiled
#
# Numba compiles the very same function. Now the processor mostly waits for memory: the
# innermost loop runs down a *column* of $B$, and each step reads another cache line.

# %%
ijk = njit(three_loops, fastmath=cpu.FASTMATH)
measure("2 compiled, order i j k", ijk)  # measured here

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


measure("3 order i k j", ikj)  # measured here

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


measure("4 blocks", blocks)  # measured here

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


measure("5 four rows, two steps at once", four_rows)  # measured here

# %% [markdown]
# ## 6. A tile that never leaves the registers
#
# The end of the road for vectors: a *tile* of $MR\times NR$ entries of $C$ lives in registers for
# 256 steps and is written once. Step $k$ loads $MR + NR$ numbers and does $MR\cdot NR$
# multiply-adds:

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
# picture). Where the processor has AMX, the library would use that; here it is switched off.

# %%
cores = cpu.get_num_threads()
with amx.without_amx():
    with cpu.threads(1):
        measure("6 the library's tile, one thread", matmul.matmul)
    # measured here
    measure(f"7 the same, {cores} threads", matmul.matmul, clock=time.perf_counter)

# %% [markdown]
# For comparison NumPy's own product, which is OpenBLAS or Intel's MKL: decades of work, in
# assembly. Also on one thread, for which it has to start in a process of its own.

# %%
blas = f"""
import time, numpy as np
a = np.random.default_rng(0).standard_normal(({n}, {n})).astype(np.float32)
a @ a
best, end = 9.0, time.process_time() + {BUDGET}
while True:
    begin = time.process_time(); a @ a; now = time.process_time()
    best = min(best, now - begin)
    if now >= end: break
print(2 * {n}**3 / best / 1e9)
"""
one = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
done = subprocess.run([sys.executable, "-c", blas], env=one, capture_output=True, check=True)
speed["8 NumPy's BLAS, one thread"] = float(done.stdout)
print(f"8 NumPy's BLAS, one thread {float(done.stdout):17.3f} GFLOP/s")  # measured here

# %% [markdown]
# ## How fast could it be?
#
# The tile alone, on panels that never leave the first-level cache, is as fast as one core of this
# machine gets. (Other programs take their share of caches and memory, here and above.)


# %%
@njit
def only_tiles(times, a, b, c, zeros):
    for _ in range(times):
        register_tile.tile(register_tile.PackedTile(256, a, b, c, 4 * NR, 0, zeros, b, 4 * NR), MR)


panels = [rng.standard_normal(size).astype(np.float32) for size in (256 * MR, 256 * NR, MR * NR)]
zeros, times = np.zeros(NR, np.float32), lesson.size(1000, 100)
where = [x.ctypes.data for x in (*panels, zeros)]
peak = 2 * 256 * MR * NR * times / seconds(lambda: only_tiles(times, *where)) / 1e9
reached = speed["6 the library's tile, one thread"] / peak  # measured here
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
# ## 9. A tile that is one instruction
#
# A vector instruction multiplies 16 pairs of numbers. Intel's server processors since 2023 have a
# unit for whole matrices, AMX (Advanced Matrix Extensions). Its eight registers are *tiles* of 16
# rows and 64 bytes, and one instruction, `tdpbf16ps`, adds the product of two of them to a third:
# 16 × 16 sums, each over 32 products of bfloat16 numbers.
#
# bfloat16 is the upper half of a float32: the same range, 8 significant bits instead of 24. Two of
# them fill the 4 bytes of a *word*. A row of tile $A$ holds the 32 channels of one row of the
# matrix, in 16 words. A row of tile $B$ holds one word of each of 16 columns, so two neighbouring
# channels stand side by side:

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), width_ratios=(1.25, 1))


def tile(ax, x, y, name, color, size=16):
    ax.add_patch(plt.Rectangle((x, y), size, size, facecolor=color, alpha=0.5, edgecolor="black"))
    ax.text(x + size / 2, y + size / 2, name, ha="center", va="center")


tile(left, 0, 0, "A\n16 rows ×\n16 words", "#FFBC79")
tile(left, 18, 18, "B\n16 words ×\n16 columns", "#FFBC79")
tile(left, 18, 0, "C += A·B\n16 × 16 float32", "#5F9ED1")
left.add_patch(plt.Rectangle((0, 12), 16, 1, facecolor="#C85200"))
left.add_patch(plt.Rectangle((32, 18), 1, 16, facecolor="#C85200"))
left.add_patch(plt.Rectangle((32, 12), 1, 1, facecolor="#C85200"))
left.text(8, 17, "row 3: channels 0 … 31", ha="center", color="#C85200")
left.text(35, 26, "column 14:\nchannels 0, 1\n2, 3\n…\n30, 31", va="center", color="#C85200")
left.set(xlim=(-1, 50), ylim=(-1, 36), aspect="equal", title="one instruction")
for i in range(2):
    tile(right, 0, 18 * (1 - i), f"A{i}", "#FFBC79")
    tile(right, 18 * (i + 1), 36, f"B{i}", "#FFBC79")
    for j in range(2):
        tile(right, 18 * (j + 1), 18 * (1 - i), f"C{2 * i + j}", "#5F9ED1")
right.set(xlim=(-1, 53), ylim=(-1, 53), aspect="equal", title="eight registers")
for ax in (left, right):
    ax.axis("off")
plt.show()

# %% [markdown]
# `amx_reference.tdpbf16ps` computes the same in NumPy, to the bit, rounding included: from zero,
# the sum over the even channels and the one over the odd channels, then both together, and only
# then the sum that was there before.

# %%
a_tile = round_bf16(rng.standard_normal((16, 32)).astype(np.float32))
b_tile = round_bf16(rng.standard_normal((32, 16)).astype(np.float32))
words = b_tile.reshape(16, 2, 16).transpose(0, 2, 1)  # word, column, channel of the word
print("B in memory:", words.shape, "bfloat16 =", words.size * 2, "bytes")
c_tile = amx_reference.tdpbf16ps(np.zeros((16, 16), np.float32), a_tile, b_tile)
print("error against float64:", rms(c_tile - np.float64(a_tile) @ b_tile))
print("here:", amx.refusal() or "AMX, granted by Linux")  # of this machine

# %% [markdown]
# **Why 2 × 2.** The unit takes 16 cycles for a product, and a load of a tile takes 8 cycles from
# the first-level cache and longer from the second. With two loads for each product, loading would
# take as long as multiplying at best. But with $m$ tiles of $A$ and $n$ of $B$ in registers, $m+n$
# loads serve $m\cdot n$ products; and all of it, sums included, has to fit into eight registers:

# %%
for m, columns in ((1, 1), (1, 2), (1, 3), (2, 2), (1, 4), (2, 3), (3, 3)):
    registers = m * columns + m + columns
    fits = "" if registers <= 8 else "  (there are 8)"
    loads = (m + columns) / (m * columns)
    print(f"{m} × {columns}: {loads:.2f} loads for each product, {registers:2d} registers{fits}")

# %% [markdown]
# 2 × 2 fills the eight registers exactly, and no other shape that fits needs as few loads.
#
# ## 10. float32 from bfloat16
#
# 8 bits are few. But a float32 has 24, and $24 = 8+8+8$: it is the sum of three bfloat16 numbers.
# The first is the nearest one, the second the nearest to what is left, and the rest has 8 bits.


# %%
def in_three_parts(x):
    first = round_bf16(x)
    second = round_bf16(x - first)
    return first, second, x - first - second


number = np.float32(np.pi)
print(" + ".join(f"{float(part)!r}" for part in in_three_parts(number)), "=", float(number))
parts_of = {"A": in_three_parts(A), "B": in_three_parts(B)}
assert all((sum(np.float64(p) for p in parts_of[x]) == y).all() for x, y in (("A", A), ("B", B)))

# %% [markdown]
# A product of two numbers is then a sum of nine products of parts, of which the last three are
# below the last bit of a float32:
#
# $$x\,w = x_0w_0 + \underbrace{x_1w_0 + x_0w_1}_{2^{-8}} +
# \underbrace{x_2w_0 + x_1w_1 + x_0w_2}_{2^{-16}} + \underbrace{\cdots}_{2^{-24}}$$
#
# Six products remain. The small ones are added first, while the sum is small. Here is the whole
# product on tiles, in NumPy, with one part, two parts (three products) and three parts (six); the
# passes over the channels are those of the kernel (`amx_tile.FORMATS`).


# %%
def on_tiles(a_parts, b_parts, passes):
    """Parts of a (M,K) and b (K,N)  ->  a·b (M,N) float32, 32 channels at a time."""
    c = np.zeros((a_parts[0].shape[0], b_parts[0].shape[1]), np.float32)
    for products in passes:
        for k in range(0, a_parts[0].shape[1], 32):
            for p, q in products:
                c = amx_reference.tdpbf16ps(c, a_parts[p][:, k : k + 32], b_parts[q][k : k + 32])
    return c


rows = lesson.size(32, 8)
few_a, few_b = ([x[:rows] for x in parts_of["A"]], [x[:, :rows] for x in parts_of["B"]])
truth = A[:rows].astype(np.float64) @ B[:, :rows]
unit = rms(A[:rows] @ B[:, :rows] - truth)  # the error of NumPy's float32 product
errors = {"NumPy in float32": 1.0}
for kind, name in ((amx_tile.BF16, "1 product"), (amx_tile.HIGH, "3 products"),
                   (amx_tile.HIGHEST, "6 products")):  # fmt: skip
    found = on_tiles(few_a, few_b, amx_tile.FORMATS[kind].passes)
    errors[f"{name} on tiles"] = rms(found - truth) / unit
for name, error in errors.items():
    print(f"{name:22s} error {error:10.2f}")
assert errors["6 products on tiles"] < 1

# %% [markdown]
# Six products of a format with 8 bits are *more* accurate than a float32 product. The reason is the
# order of the sum: a sum over $K$ channels in float32 rounds $K$ times, and each rounding is as
# large as the sum has become. The unit adds 32 channels from zero before they meet the rest, so
# only $K/32$ roundings happen at full size.
#
# It is also faster, where there is AMX: six products at 1,024 operations a cycle are like one at
# 171, and AVX-512 computes 64.

# %%
roofs = {"float32, vectors": peak}  # of this machine
if amx.in_use():
    with cpu.threads(1):
        measure("9 AMX, six products, one thread", matmul.matmul)
    roofs["bfloat16, AMX"] = amx_peak.peak(amx_tile.BF16, 1, time.process_time) / 1e9
    roofs["float32, AMX"] = roofs["bfloat16, AMX"] / 6
    print(f"peak of the unit {roofs['bfloat16, AMX']:.0f} GFLOP/s in bfloat16, "
          f"a sixth of it, {roofs['float32, AMX']:.0f}, in float32")  # fmt: skip
else:
    print("no AMX on this machine; minidistil/ops/kernels/amx_tile.py has what it would do")

# %% [markdown]
# ## The roofline: what is worth making faster
#
# The product reaches less of the unit's peak than the tile reached of the vectors'. Where is the
# rest? An op needs arithmetic and traffic. Divide its operations by the bytes that it has to move,
# its *intensity*; then it can be no faster than
#
# $$\min(\text{peak},\; \text{intensity}\cdot\text{bandwidth}).$$
#
# In a picture with logarithmic axes this is a slope that ends under a flat roof. A sum does one
# operation for 12 bytes: no cleverness helps but moving less, which is why the library fuses it
# with LayerNorm. A product of $n\times n$ matrices does $2n^3$ operations for $12n^2$ bytes: it
# leaves the slope behind as soon as $n$ is large.
#
# A whole model is mostly `linear`. Each weight is read once, 4 bytes, and used for one multiply-add
# for each token: $N/2$ operations a byte for $N$ tokens. One sentence of 16 tokens (1×16) has an
# intensity of 8, eight of 128 tokens (8×128) have 499: attention adds to it, what goes in and comes
# out takes from it. On most machines the slope meets the roof between the two: 1×16 is bound by the
# slope, as reading its weights takes longer than multiplying with them, and 8×128 by the roof.

# %%
# of this machine
far = lesson.size(peak_cpu.FAR, 1 << 16)  # bytes, more than a cache holds
bandwidth = peak_cpu.bandwidth(far, 1, time.process_time, read=far) / 1e9  # GB/s
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

configs = workloads.configs_of(lesson.size("base", "tiny"))
model = md.from_config(configs["distilbert"], "feature-extraction")
with cpu.threads(1):
    for row in workloads.chosen(["distilbert-1x16", "distilbert-8x128"], configs):
        batch = workloads.batch_of(row, model.config.vocab_size)
        flops, moved = workloads.operations(row, configs), workloads.traffic(row, configs)
        rate = flops / seconds(lambda batch=batch: model.forward(**batch, keep=False)) / 1e9
        points[f"DistilBERT {row.label}"] = (flops / moved, rate)

intensity = np.logspace(-1.5, 3.5, 100)
fig, ax = plt.subplots(figsize=(9, 4.6))
for name, roof in roofs.items():
    ax.loglog(intensity, np.minimum(roof, intensity * bandwidth), "-", color="0.4")
    ax.annotate(f"{name}: {roof:.0f}", (3000, roof), xytext=(0, 3), ha="right", color="0.4",
                textcoords="offset points", fontsize=9)  # fmt: skip
for name, (at, rate) in points.items():
    color = "#C85200" if name.startswith("DistilBERT") else "#006BA4"
    ax.loglog(at, rate, "o", color=color)
    place = (-20, 7) if name.endswith("512") else (6, -11)
    ax.annotate(name, (at, rate), xytext=place, textcoords="offset points", fontsize=9,
                color=color)  # fmt: skip
ax.set(xlabel="operations for each byte that has to move", ylabel="GFLOP/s on one core",
       title=f"slope: {bandwidth:.1f} GB/s from memory", xlim=(0.03, 3500),
       ylim=(0.1, 3 * max(roofs.values())))  # fmt: skip
plt.show()
for name, (at, rate) in points.items():
    if name.startswith("DistilBERT"):
        slope, roof = at * bandwidth, roofs.get("float32, AMX", peak)
        bound = "the slope" if slope < roof else "the roof"
        print(f"{name:17s} {at:6.1f} operations a byte: {rate:4.0f} GFLOP/s under {bound}, "
              f"{min(slope, roof):.0f}")  # fmt: skip

# %% [markdown]
# A point above the slope is no mistake: what was just written still lies in a cache, which is
# faster than memory. And a point far below its bound is where work would pay. For a model, the gap
# has several reasons: between the products are attention, GELU and LayerNorm, which are slower, and
# a product may read more bytes than are counted. With AMX, 1×16 does: a float32 weight is kept as
# three parts, 6 bytes instead of 4, so that two thirds of the slope are its limit. It gains from
# fewer bytes a weight and from more tokens at a time, but hardly from faster arithmetic, from which
# 8×128 gains.
#
# `minidistil bench --roofline roof.png` draws this picture with all rows of the benchmark, and with
# the roofs of every number format.
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
lesson.check("tile_intensity", tile_intensity)

# %% [markdown]
# ## Exercise 2: the blocked sum
#
# Write the product as a sum over blocks of $k$: the blocks' products, added up. $K$ need not be a
# multiple of the block.


# %%
def in_blocks(a, b, block):
    """a (M,K), b (K,N)  ->  (M,N), `block` steps of k at a time."""


# %%
lesson.check("in_blocks", in_blocks)

# %% [markdown]
# ## Exercise 3: three parts
#
# Split a float32 into three bfloat16 numbers whose sum it is. `round_bf16` gives the nearest one.


# %%
def three_parts(x):
    """x, any shape, float32  ->  three arrays like it: bfloat16 numbers that add up to x."""


# %%
lesson.check("three_parts", three_parts)

# %% [markdown]
# ## Exercise 4: the edge of the roof
#
# A model reads each weight once and multiplies it with one number of each token. How many tokens at
# a time does it take until the slope meets the roof?


# %%
def tokens_at_the_edge(peak, bandwidth, size):
    """Operations a second, bytes a second, bytes of a weight  ->  tokens, any real number."""


# %%
lesson.check("tokens_at_the_edge", tokens_at_the_edge)

# %% [markdown]
# ## Summary
#
# * Compiled loops in the right order, blocks in the cache and sums in registers take a product from
#   a ten-thousandth of the machine's speed to near its peak.
# * A tile wins because each loaded number is used often; AMX has such a tile as an instruction.
# * The roofline says whether arithmetic or memory is the limit, and so what is worth making faster.
#
# [← 10 one op, three implementations](10_backends.ipynb) ·
# [12 cross-checking →](12_check.ipynb)
