# %% [markdown]
# # 4 · LayerNorm
#
# [← 3 linear and GELU](03_linear_gelu.ipynb) ·
# [5 attention →](05_attention.ipynb) ·
# about 60 minutes
#
# The channels of every token are given mean 0 and variance 1, then scaled and shifted. The forward
# is four lines; the backward is where most from-scratch implementations go wrong, because $x$
# reaches $y$ three ways. This chapter derives all three.
#
# **Question:** adding 5 to every channel of a token changes nothing in LayerNorm's result. What
# does that say about the gradient?
#
# Code: [`ops/layernorm.py`](../minidistil/ops/layernorm.py)

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
import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
ops = md.backend("numpy", "float64")

# %% [markdown]
# ## Forward
#
# For one row $x$ of $C$ channels; all means run over channels:
#
# $$\mu = \overline{x}, \qquad r = \frac{1}{\sqrt{\overline{(x-\mu)^2} + \varepsilon}}, \qquad
#   \hat x = (x - \mu)\,r, \qquad y = \gamma\odot\hat x + \beta .$$


# %%
def layernorm(x, gamma, beta, eps=1e-12):
    """x (N,C), gamma (C,), beta (C,)  ->  y (N,C), cache."""
    mu = x.mean(axis=1, keepdims=True)  # (N,1)
    r = 1 / np.sqrt(((x - mu) ** 2).mean(axis=1, keepdims=True) + eps)  # (N,1)
    xhat = (x - mu) * r  # (N,C)
    return gamma * xhat + beta, (xhat, r, gamma)


N, C = 6, 40
x = rng.standard_normal((N, C)) * np.linspace(0.3, 3, N)[:, None] + np.linspace(-4, 4, N)[:, None]
xhat = layernorm(x, np.ones(C), np.zeros(C))[0]

fig, axes = plt.subplots(1, 2, sharey=True)
for ax, rows, title in ((axes[0], x, "x"), (axes[1], xhat, "x̂")):
    for n in range(N):
        ax.plot(rows[n], np.full(C, n), "|", color="#006BA4", markersize=14)
    ax.set(title=f"channels of six tokens: {title}", xlabel="value", xlim=(-10, 10))
axes[0].set(ylabel="token")
plt.show()

# %% [markdown]
# Normalisation removes the mean and the scale of a row. Each row is normalised alone, unlike in
# BatchNorm, whose mean runs over the batch. A token's vector therefore does not depend on the rest
# of the batch, and padding can be left out.
#
# ## Backward: the easy two
#
# $\gamma$ and $\beta$ are shared by all $N$ rows, so their gradients add up over rows:
#
# $$\partial\beta = \sum_n \partial y_n, \qquad \partial\gamma = \sum_n \partial y_n\odot\hat x_n,
# \qquad \partial\hat x = \gamma\odot\partial y .$$
#
# ## Backward: the three ways of x
#
# $x_j$ reaches $\hat x_i$ directly (if $i=j$), through $\mu$ and through $r$. With
# $\partial\mu/\partial x_j = 1/C$ and, since $r = (\text{var}+\varepsilon)^{-1/2}$,
# $\partial r/\partial x_j = -r^3 (x_j-\mu)/C$:
#
# $$\frac{\partial\hat x_i}{\partial x_j}
#   = r\Bigl(\underbrace{\delta_{ij}}_{\text{directly}}
#   - \underbrace{\tfrac1C}_{\text{through }\mu}
#   - \underbrace{\tfrac1C\hat x_i\hat x_j}_{\text{through }r}\Bigr).$$
#
# Summed against $\partial\hat x_i$ over $i$,
#
# $$\partial x = r\,\bigl(\partial\hat x - \overline{\partial\hat x}
#    - \hat x\;\overline{\partial\hat x\odot\hat x}\bigr).$$


# %%
def layernorm_backward(dy, cache):
    """dy (N,C), cache  ->  dx (N,C), dgamma (C,), dbeta (C,)."""
    xhat, r, gamma = cache
    dxhat = gamma * dy
    through_mu = dxhat.mean(axis=1, keepdims=True)  # (N,1)
    through_r = xhat * (dxhat * xhat).mean(axis=1, keepdims=True)  # (N,C)
    return r * (dxhat - through_mu - through_r), (dy * xhat).sum(axis=0), dy.sum(axis=0)


gamma, beta = 1 + 0.3 * rng.standard_normal(C), rng.standard_normal(C)
md.testing.check_backward(layernorm, layernorm_backward, [x, gamma, beta], rng)

# %% [markdown]
# The three terms of the Jacobian of one row. The two corrections are small, $1/C$ each, but dense:
# every output channel depends on every input channel.

# %%
row, D = xhat[5, :12], 12
row = (row - row.mean()) / row.std()
parts = {"directly": np.eye(D), "through μ": -np.ones((D, D)) / D,
         "through r": -np.outer(row, row) / D}  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(7, 2.2))
total = sum(parts.values())
for ax, (title, matrix) in zip(axes, {**parts, "sum": total}.items(), strict=True):
    image = ax.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
fig.colorbar(image, ax=axes, shrink=0.8)
plt.show()

# %% [markdown]
# ## What the formula means
#
# The two terms strip from $\partial\hat x$ what points along $1$ and along $\hat x$. Shifting or
# stretching a row leaves $y$ where it was, so the loss cannot have a slope in those directions.
# This is a test that needs no second implementation:

# %%
y, cache = layernorm(x, gamma, beta)
dx, _, _ = layernorm_backward(rng.standard_normal(x.shape), cache)
print("dx along 1: ", np.abs(dx.mean(axis=1)).max())
print("dx along x̂:", np.abs((dx * cache[0]).mean(axis=1)).max())

shifted, _ = layernorm(3 * x + 5, gamma, beta)
print("y of 3x+5 against y of x:", np.abs(shifted - y).max())

# %% [markdown]
# ## The place of ε
#
# $\varepsilon$ keeps a constant row from dividing by zero. BERT has $10^{-12}$; RoBERTa, GPT-2 and
# PyTorch's default have $10^{-5}$. In all of them $\varepsilon$ stands *inside* the root. While the
# variance is near 1, neither its size nor its place is visible. For a row that hardly varies they
# are different functions. The picture also has the variance divided by $C-1$ instead of $C$, which
# is another value for every row:

# %%
scale = np.logspace(-8, 1, 60)
direction = rng.standard_normal(C)
direction = (direction - direction.mean()) / direction.std()
forms = {
    "ε = 1e-12": lambda s: s / np.sqrt(s**2 + 1e-12),
    "ε = 1e-5": lambda s: s / np.sqrt(s**2 + 1e-5),
    "ε = 1e-5 outside": lambda s: s / (s + 1e-5),
    "divided by C − 1": lambda s: s / np.sqrt(s**2 * C / (C - 1)),
}
fig, ax = plt.subplots()
for label, form in forms.items():
    ax.semilogx(scale, form(scale), label=label)
ax.set(xlabel="standard deviation of the row", ylabel="that of x̂")
ax.legend()
plt.show()

# %% [markdown]
# ## Two passes, not one
#
# $\overline{x^2} - \mu^2$ is the variance in one pass, and a trap: for a row far from zero it
# subtracts two large numbers. In float32 a row around 3000 with standard deviation 1 has lost every
# digit. The compiled functions of the library, its *kernels* (chapter 10), therefore run over the
# row twice. That is cheap, because the second time the row lies in the cache of the processor.

# %%
far = np.logspace(0, 4, 40)
two_pass, one_pass = [], []
for shift in far:
    row = (direction + shift).astype(np.float32)
    exact = row.astype(np.float64).var()
    one_pass.append(abs(np.mean(row * row) - np.mean(row) ** 2 - exact) / exact)
    two_pass.append(abs(np.mean((row - np.mean(row)) ** 2) - exact) / exact)
fig, ax = plt.subplots()
ax.loglog(far, np.maximum(two_pass, 1e-9), label="mean((x − μ)²)")
ax.loglog(far, np.maximum(one_pass, 1e-9), label="mean(x²) − μ²")
ax.set(xlabel="mean of the row", ylabel="relative error of the variance")
ax.legend()
plt.show()

# %% [markdown]
# ## The same numbers as the library, on both backends
#
# A backend is one implementation of all ops: `numpy` is NumPy's, `cpu` the compiled kernels. How
# far each `cpu` result may be from float64 follows from the error of NumPy's own float32.

# %%
dy = rng.standard_normal(x.shape)
exact = (y, *layernorm_backward(dy, cache))
results = {}
for name in ("numpy", "cpu"):
    ln = md.backend(name).layernorm
    out, kept = ln.forward(*(a.astype(np.float32) for a in (x, gamma, beta)))
    results[name] = (out, *ln.backward(dy.astype(np.float32), kept))
for name, mine, theirs, truth in zip(
    ("y", "dx", "dgamma", "dbeta"), results["cpu"], results["numpy"], exact, strict=True
):
    error, allowed = md.testing.compare(name, mine, theirs, truth)
    print(f"{name:7s} kernel {error:.1e} from float64, allowed {allowed:.1e}")

# %% [markdown]
# ## Exercise: the backward
#
# Write all three gradients without looking at `layernorm_backward` above. The means of $\partial x$
# run over channels, the sums of $\partial\gamma$ and $\partial\beta$ over rows.


# %%
def my_backward(dy, xhat, r, gamma):
    """dy (N,C), xhat (N,C), r (N,1), gamma (C,)  ->  dx (N,C), dgamma (C,), dbeta (C,)."""


# %%
lesson.check("my_backward", my_backward)

# %% [markdown]
# ## Your own DistilBERT
#
# `layernorm` and `layernorm_backward`, for any number of leading axes, such as $(B,T,C)$: the
# gradients of $\gamma$ and $\beta$ sum over all of them and have the shape $(C,)$.

# %%
lesson.check(4)

# %% [markdown]
# ## Summary
#
# * $x$ reaches $y$ directly, through the mean and through $r$, so two means are subtracted from
#   $\gamma\odot\partial y$.
# * A shift or a stretch of a row does not change $y$, so the gradient has no part along $1$ or
#   $\hat x$.
# * $\varepsilon$ stands inside the root, and shows only in rows that hardly vary.
#
# [← 3 linear and GELU](03_linear_gelu.ipynb) ·
# [5 attention →](05_attention.ipynb)
