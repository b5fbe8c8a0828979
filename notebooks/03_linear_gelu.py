# %% [markdown]
# # 3 · Linear and GELU
#
# [← 2 what a backward is](02_backward.ipynb) ·
# [4 LayerNorm →](04_layernorm.ipynb) ·
# about 60 minutes
#
# Nine tenths of a transformer's arithmetic is $y = xW^{\top} + b$, with a nonlinear function
# between two of those. This chapter derives both backwards entry by entry. From them it builds the
# feed-forward sublayer, one of the two halves of a layer; a layer is also called a block
# (chapter 6).
#
# **Question:** two linear layers in a row are one linear layer. So why does every block of a
# transformer have two of them?
#
# Code: [`ops/linear.py`](../minidistil/ops/linear.py) ·
# [`ops/gelu.py`](../minidistil/ops/gelu.py)

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
import math

import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
ops = md.backend("numpy", "float64")

# %% [markdown]
# ## A matrix product and a shift
#
# PyTorch stores one row of $W$ for each *output*, $W$ is $(O,I)$, hence the transpose:
#
# $$y_{no} = \sum_i x_{ni} W_{oi} + b_o$$
#
# | | $x$ | $W$ | $b$ | $y$ |
# |---|---|---|---|---|
# | shape | $(N,I)$ | $(O,I)$ | $(O,)$ | $(N,O)$ |

# %%
N, I, O = 5, 3, 4
x, W, b = (rng.standard_normal(shape) for shape in ((N, I), (O, I), (O,)))
y = np.zeros((N, O))
for n in range(N):
    for o in range(O):
        y[n, o] = b[o] + sum(x[n, i] * W[o, i] for i in range(I))
assert np.allclose(y, x @ W.T + b)

# %% [markdown]
# ## Its backward, entry by entry
#
# $x_{ni}$ appears in $y_{no}$ for every $o$, each time with the factor $W_{oi}$. The chain rule
# adds up all the places where it appears:
#
# $$\partial x_{ni} = \sum_o \partial y_{no} W_{oi}, \qquad
#   \partial W_{oi} = \sum_n \partial y_{no}\, x_{ni}, \qquad
#   \partial b_o = \sum_n \partial y_{no}.$$
#
# Reading off which index is summed gives the matrix form. There is no need to remember a
# transpose: only one arrangement has the right shapes.

# %%
dy = rng.standard_normal((N, O))
dx = np.einsum("no,oi->ni", dy, W)
dW = np.einsum("no,ni->oi", dy, x)
db = np.einsum("no->o", dy)
assert np.allclose(dx, dy @ W) and np.allclose(dW, dy.T @ x) and np.allclose(db, dy.sum(axis=0))

# What is built from scratch is what the library computes:
_, cache = ops.linear.forward(x, W, b)
for mine, theirs in zip((dx, dW, db), ops.linear.backward(dy, cache), strict=True):
    assert np.allclose(mine, theirs)

# %% [markdown]
# The forward is one product of $N\cdot I\cdot O$ multiplications, the backward two of the same
# size. A training step therefore costs three times an inference, wherever linear layers dominate.
#
# ## A nonlinear function
#
# Two linear layers in a row are one linear layer. ReLU, $\max(x, 0)$, has a kink at 0; BERT's GELU
# multiplies $x$ by the probability that a standard normal variable is below it:
#
# $$\mathrm{gelu}(x) = x\,\Phi(x), \qquad \Phi(x) = \tfrac12\bigl(1 + \mathrm{erf}(x/\sqrt2)\bigr),
# \qquad \mathrm{gelu}'(x) = \Phi(x) + x\,\varphi(x), \quad \varphi = \Phi'.$$


# %%
def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_slope(x):
    Phi = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return Phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


t = np.linspace(-4, 4, 401)
fig, axes = plt.subplots(1, 2)
axes[0].plot(t, gelu(t), label="GELU")
axes[0].plot(t, np.maximum(t, 0), label="ReLU")
axes[0].set(title="value", xlabel="x")
axes[0].legend()
axes[1].plot(t, gelu_slope(t), label="GELU′")
axes[1].plot(t, t > 0, label="ReLU′")
axes[1].set(title="slope", xlabel="x")
axes[1].legend()
plt.show()
print(f"GELU is lowest at x = {t[gelu(t).argmin()]:.2f}, where it is {gelu(t).min():.3f}")

# %% [markdown]
# For a negative input ReLU has the gradient 0, and what comes before it learns nothing. GELU's
# gradient is small there but not zero, so training can still change the input. And near zero its
# slope passes through $\tfrac12$ where ReLU's jumps from 0 to 1.
#
# ## Three functions of one name
#
# GPT-2 and the first BERT code approximate $\Phi$ by a tanh (`"gelu_new"`), others by a sigmoid,
# $x\,\sigma(1.702x)$ ("quick GELU"). A model trained with one is *nearly* right with another. Its
# answers look the same, so the mistake is found only by comparing the numbers with the original's.

# %%
tanh_form = ops.gelu.forward(t[None], approximate="tanh")[0][0]
quick = t / (1 + np.exp(-1.702 * t))

fig, ax = plt.subplots()
ax.semilogy(t, np.abs(tanh_form - gelu(t)) + 1e-9, label="tanh form")
ax.semilogy(t, np.abs(quick - gelu(t)) + 1e-9, label="sigmoid form")
ax.axhline(1e-7, color="0.5", linewidth=1)
ax.annotate("what float32 can hold", (-4, 1.3e-7), color="0.3")
ax.set(xlabel="x", ylabel="|difference from GELU|", ylim=(1e-8, 0.1))
ax.legend()
plt.show()
print(f"largest: tanh {np.abs(tanh_form - gelu(t)).max():.1e}, "
      f"sigmoid {np.abs(quick - gelu(t)).max():.1e}")  # fmt: skip

# %% [markdown]
# ## From scratch: the feed-forward sublayer
#
# $$u \;\mapsto\; u + W_2\,\mathrm{gelu}(W_1 u + b_1) + b_2$$
#
# Each token is projected from $C$ to $F = 4C$ channels, through GELU, and back to $C$; tokens do
# not interact. The backward is the forward read upwards.


# %%
def feed_forward(u, W1, b1, W2, b2):
    h = u @ W1.T + b1  # (N,F)
    g = gelu(h)
    return u + g @ W2.T + b2, (u, W1, h, g, W2)


def feed_forward_backward(dy, cache):
    u, W1, h, g, W2 = cache
    dW2, db2, dg = dy.T @ g, dy.sum(axis=0), dy @ W2
    dh = dg * gelu_slope(h)
    dW1, db1, du = dh.T @ u, dh.sum(axis=0), dh @ W1
    return dy + du, dW1, db1, dW2, db2  # the sum and W1 read u


C, F = 6, 24
args = [rng.standard_normal(s) for s in ((N, C), (F, C), (F,), (C, F), (C,))]
md.testing.check_backward(feed_forward, feed_forward_backward, args, rng)

# The library, op by op, gives the same:
u, W1, b1, W2, b2 = args
h, lin1 = ops.linear.forward(u, W1, b1)
g, bend = ops.gelu.forward(h)
f, lin2 = ops.linear.forward(g, W2, b2)
y, add = ops.add.forward(u, f)
mine, cache = feed_forward(*args)
assert np.allclose(mine, y)
dy = rng.standard_normal(y.shape)
du, df = ops.add.backward(dy, add)
dg, dW2, db2 = ops.linear.backward(df, lin2)
(dh,) = ops.gelu.backward(dg, bend)
du_lin1, dW1, db1 = ops.linear.backward(dh, lin1)
library = (du + du_lin1, dW1, db1, dW2, db2)
for a, c in zip(feed_forward_backward(dy, cache), library, strict=True):
    assert np.allclose(a, c)

# %% [markdown]
# ## GELU in a trained model
#
# What is the distribution of GELU's inputs in the teacher, and how many of them are negative?
# `taps` asks a forward for intermediate results by name; `lin1` is the first linear layer, whose
# output is the input of GELU.

# %%
from minidistil.model.bundled_teacher import default_teacher

teacher = md.from_pretrained(default_teacher())
batch = md.load_tokenizer(default_teacher())(["a film with a heart of gold, and no brain at all."])
names = [f"layer.{i}.lin1" for i in range(teacher.config.num_hidden_layers)]
taps = teacher.forward(**batch, taps=names).taps

fig, axes = plt.subplots(1, len(names), sharey=True, figsize=(7, 2.4))
for i, name in enumerate(names):
    values = taps[name].ravel()
    axes[i].hist(values, bins=np.linspace(-6, 4, 41), color="#5F9ED1", density=True)
    axes[i].axvline(0, color="0.3", linewidth=1)
    axes[i].set(title=f"layer {i}: {np.mean(values < 0):.0%} below 0", xlabel="input of GELU")
    axes[i].title.set_fontsize(9)
plt.show()

# %% [markdown]
# In this teacher most inputs are negative, in the first layer nearly all of them. So most outputs
# are nearly 0.
#
# ## Exercise 1: linear, backward
#
# The three sums of "Its backward, entry by entry" as matrix products, without looking at the cell
# below them. Return them in the order of the forward's arguments.


# %%
def linear_backward(dy, x, W):
    """dy (N,O), x (N,I), W (O,I)  ->  dx (N,I), dW (O,I), db (O,)."""


# %%
lesson.check("linear_backward", linear_backward)

# %% [markdown]
# ## Exercise 2: the tanh form, backward
#
# $\Phi(x) \approx \tfrac12(1 + \tanh z)$ with $z = \sqrt{2/\pi}\,(x + 0.044715\,x^3)$. Write its
# backward; $\tanh' = 1 - \tanh^2$.


# %%
def gelu_tanh_backward(dy, x):
    """dy (N,F), x (N,F)  ->  dx (N,F)."""


# %%
lesson.check("gelu_tanh_backward", gelu_tanh_backward)

# %% [markdown]
# ## Your own DistilBERT
#
# `linear`, `gelu` and their backwards. In the file an op takes any number of leading axes, such as
# $(B,T,I)$: a gradient of $W$ sums over all of them. `erf` is there. What you put into a cache is
# your choice; `lesson.check` gives a backward the cache of your own forward.

# %%
lesson.check(3)

# %% [markdown]
# ## Summary
#
# * A linear layer's backward is two products: $\partial x = \partial y\,W$ and
#   $\partial W = \partial y^{\top}x$. The summed index says which.
# * GELU stands between the two layers of a block, and its slope is small but not zero for negative
#   inputs. Without it, the two layers would be one.
# * Three functions are called GELU; the difference is small, and found by comparing numbers.
#
# [← 2 what a backward is](02_backward.ipynb) ·
# [4 LayerNorm →](04_layernorm.ipynb)
