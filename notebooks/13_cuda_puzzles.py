# %% [markdown]
# # 13 · CUDA puzzles
#
# [← 12 cross-checking](12_check.ipynb) ·
# [appendix: thirty-eight facts →](appendix_facts.ipynb) ·
# about 3 hours, no GPU needed
#
# Eight kernels to write, from a map to one tile of attention. Each is a small version of a kernel
# of this library. Your kernel runs in Numba's simulator, on arrays that record which thread reads
# and writes which cell. From the record follow a picture and a diagnosis: a race is found even
# where the numbers happen to be right.
#
# **Question:** the threads of a kernel all run the same lines. What decides which number each of
# them works on, and in which order do they run?
#
# Code: [`ops/runtime/cuda.py`](../minidistil/ops/runtime/cuda.py) ·
# [`ops/softmax.py`](../minidistil/ops/softmax.py) ·
# [`ops/kernels/matmul_cuda.py`](../minidistil/ops/kernels/matmul_cuda.py)

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
import math  # noqa: F401  (for your kernels)

from numba import cuda, float32

from minidistil import puzzles

# %% [markdown]
# ## What a kernel sees
#
# | | |
# |---|---|
# | `cuda.threadIdx.x` | the thread's number in its block, 0 to `cuda.blockDim.x - 1` |
# | `cuda.blockIdx.x` | the block's number in the grid |
# | `cuda.grid(1)` | `cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x` |
# | `cuda.shared.array(8, float32)` | memory that the threads of one block share; 8 is a constant |
# | `cuda.local.array(4, float32)` | memory of one thread |
# | `cuda.syncthreads()` | a barrier: no thread of the block passes it before all have reached it |
#
# `float32(0)` is a number of that type; a device computes with a bare `0.0` in float64, slowly.
#
# Between two barriers the threads of a block may run in any order, and blocks always may. Two
# threads may therefore use one cell without a barrier between them only if both read it.
#
# `puzzles.draw` shows what the solution does, `puzzles.check` runs your kernel and shows what it
# does, and `puzzles.solution("relu_map")` prints the solution. A kernel may print.
#
# ## 1 · Map
#
# $y_i = \max(x_i, 0)$, the op `relu`. Eight numbers, two blocks of four threads, a thread for each
# number. A picture reads from top to bottom: cells that are read, the threads (in the colour of
# the cells that they use), cells that are written.

# %%
puzzles.draw("relu_map")


# %%
@cuda.jit
def relu_map(x, y):
    """x (8,)  ->  y (8,). Grid: 2 blocks of 4 threads."""


# %%
puzzles.check("relu_map", relu_map)

# %% [markdown]
# This is how a mistake is shown. A kernel without the block's number uses the first four numbers
# twice, and the last four never:


# %%
@cuda.jit
def first_four(x, y):
    i = cuda.threadIdx.x
    y[i] = max(x[i], float32(0))


puzzles.check("relu_map", first_four)

# %% [markdown]
# ## 2 · Guard
#
# $y = a + b$, the op `add`. Ten numbers, three blocks of four threads: two threads have nothing to
# do. A device does not check an index. An access outside an array reads or destroys what lies
# there.

# %%
puzzles.draw("guarded_add")


# %%
@cuda.jit
def guarded_add(a, b, y):
    """a, b (10,)  ->  y (10,). Grid: 3 blocks of 4 threads."""


# %%
puzzles.check("guarded_add", guarded_add)

# %% [markdown]
# ## 3 · Block sum
#
# $\sum_i x_i$ of twenty numbers by eight threads. Each thread first adds up every eighth number, so
# that neighbouring threads read neighbouring cells. A warp (32 threads that run together) then gets
# its numbers from memory in few *segments* of eight: such access is *coalesced*. The eight parts
# go to shared memory, where four threads add the parts of the other four, then two, then one.
#
# The dashed lines are barriers: between them, no cell may be written by one thread and used by
# another.

# %%
puzzles.draw("block_sum")


# %%
@cuda.jit
def block_sum(x, total):
    """x (20,)  ->  total (1,). Grid: 1 block of 8 threads."""


# %%
puzzles.check("block_sum", block_sum)

# %% [markdown]
# ## 4 · Softmax row
#
# $$y_k = \frac{e^{x_k - m}}{\sum_j e^{x_j - m}}, \qquad m = \max_j x_j .$$
#
# A block for each row. There are two reductions, first the maximum, then the sum, and one shared
# array is enough for both. When may it be used again?
#
# A cell that several threads read is grey; outlined are the cells that one of them reads.

# %%
puzzles.draw("softmax_row")


# %%
@cuda.jit
def softmax_row(x, y):
    """x (2,20)  ->  y (2,20). Grid: 2 blocks of 8 threads."""


# %%
puzzles.check("softmax_row", softmax_row)

# %% [markdown]
# ## 5 · LayerNorm row
#
# $$y_c = \gamma_c\,\frac{x_c - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta_c, \qquad
#   \mu = \frac1C\sum_c x_c, \quad \sigma^2 = \frac1C\sum_c (x_c - \mu)^2 .$$
#
# The second sum needs the result of the first.

# %%
puzzles.draw("layernorm_row")


# %%
@cuda.jit
def layernorm_row(x, gamma, beta, eps, y):
    """x (2,20), gamma, beta (20,), eps  ->  y (2,20). Grid: 2 blocks of 8 threads."""


# %%
puzzles.check("layernorm_row", layernorm_row)

# %% [markdown]
# ## 6 · Transposition
#
# $y = x^\top$. The obvious kernel either reads or writes along columns, and neighbours in a warp
# then use cells that are far apart. Read along rows into shared memory, and write along rows from
# there: only shared memory is read along columns, where that costs little.
#
# Blocks have two axes now. Threads are numbered along x first, so `threadIdx.x` has to run along
# the last axis of an array in global memory. (On a device a tile is 8 × 9, which puts a column
# into different banks of shared memory; the simulator has no banks.)

# %%
puzzles.draw("transposition")


# %%
@cuda.jit
def transposition(x, y):
    """x (8,16)  ->  y (16,8). Grid: 2 blocks of 8 × 8 threads, each for a tile."""


# %%
puzzles.check("transposition", transposition)

# %% [markdown]
# ## 7 · Tiled product
#
# $C = AB$. Each number of $C$ needs a row of $A$ and a column of $B$. If every thread fetched its
# own, a block would fetch each number of $A$ eight times. So the block fetches a tile of $A$ and a
# tile of $B$ into shared memory, each thread one number of each, multiplies them, and continues
# along $K$. This is the main idea of every fast product: a number that was fetched is used often.

# %%
puzzles.draw("tiled_product")


# %%
@cuda.jit
def tiled_product(a, b, c):
    """a (8,16), b (16,16)  ->  c (8,16). Grid: 2 blocks of 8 × 8 threads, each for a tile."""


# %%
puzzles.check("tiled_product", tiled_product)

# %% [markdown]
# ## 8 · One tile of attention
#
# $$y = \mathrm{softmax}\!\left(\frac{q^\top k^\top}{\sqrt D}\right) v$$
#
# for eight queries (the columns of $q$), twelve keys and values, $D = 4$. Each thread has a query.
# Keys and values pass by in tiles of four, so no thread ever sees a whole row of scores. It keeps
# three things: the maximum $m$ of the scores so far, the sum $\ell$ of $e^{s-m}$, and the weighted
# sum $o$ of the values. A new score $s$ changes them to
#
# $$m' = \max(m, s), \qquad \ell' = \ell\,e^{m-m'} + e^{s-m'}, \qquad
#   o' = o\,e^{m-m'} + e^{s-m'} v ,$$
#
# and at the end $y = o/\ell$. Both sums shrink when the maximum grows. (Milakov and Gimelshein,
# 2018; the kernel built on it is FlashAttention, Dao et al., 2022.)

# %%
puzzles.draw("attention_tile")


# %%
@cuda.jit
def attention_tile(q, k, v, y):
    """q (4,8), k, v (12,4)  ->  y (4,8). Grid: 1 block of 8 threads, one for each query."""


# %%
puzzles.check("attention_tile", attention_tile)

# %% [markdown]
# ## Summary
#
# * A thread finds its numbers from its own indices; a guard keeps it inside the array.
# * Threads of a block meet in shared memory. Between two barriers a cell has one writer and no
#   other reader. A barrier stands where every thread reaches it.
# * Neighbouring threads use neighbouring cells, and what a block fetches is shared.
# * The answer to the question: the indices of thread and block decide what a thread works on, and
#   nothing but a barrier decides the order.
#
# Where this leads: `block_sum` in [`ops/runtime/cuda.py`](../minidistil/ops/runtime/cuda.py),
# the rows of [`ops/softmax.py`](../minidistil/ops/softmax.py) and
# [`ops/layernorm.py`](../minidistil/ops/layernorm.py), tiles in registers in
# [`matmul_cuda.py`](../minidistil/ops/kernels/matmul_cuda.py), and attention with its backward in
# [`flash_attention_cuda.py`](../minidistil/ops/kernels/flash_attention_cuda.py).
#
# [← 12 cross-checking](12_check.ipynb) ·
# [appendix: thirty-eight facts →](appendix_facts.ipynb)
