# %% [markdown]
# # 2 · What a backward is
#
# [← 1 a tour](01_tour.ipynb) ·
# [3 linear and GELU →](03_linear_gelu.ipynb) ·
# about 45 minutes
#
# An *op* is one operation on arrays, such as softmax. This project has no automatic
# differentiation: every op has its own `backward`. This chapter explains what such a function
# computes, how to test it, and why the backward of a hundred ops in a row is the forward read from
# its last line to its first.
#
# **Question:** a test of gradients accepts a backward that returns nothing but zeros. What is wrong
# with the test?
#
# Code: [`testing.py`](../minidistil/testing.py) ·
# [`ops/softmax.py`](../minidistil/ops/softmax.py)

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
# ## One number in, one number out
#
# $y = x^3$ has the derivative $3x^2$. Training asks a slightly different question: some *loss*
# depends on $y$, we already know $\partial y := \mathrm{d}\,\text{loss}/\mathrm{d}y$, and want
# $\partial x$. The chain rule answers
#
# $$\partial x = \partial y \cdot 3x^2 .$$
#
# In this project `dx` is always the gradient of the loss with respect to `x`, and has its shape.
# The forward returns the values that the backward needs in a `cache`.


# %%
def forward(x):
    return x**3, x  # y, cache


def backward(dy, cache):
    x = cache
    return (dy * 3 * x**2,)  # one gradient for each argument of forward


y, cache = forward(2.0)
print("y =", y, "  dx =", backward(1.0, cache)[0])
h = 1e-5
print("by difference:", (forward(2.0 + h)[0] - forward(2.0 - h)[0]) / (2 * h))

# %% [markdown]
# ## Many numbers in, many out
#
# For a vector the derivative is a matrix, the Jacobian $J_{ij} = \partial y_i / \partial x_j$, and
# the chain rule multiplies by its *transpose*:
#
# $$\partial x_j = \sum_i \partial y_i\, J_{ij} \qquad\text{that is}\qquad
#   \partial x = J^{\top}\partial y.$$
#
# A backward computes this product without ever building $J$. Softmax shows why that matters: its
# Jacobian is full, $J_{ij} = y_i(\delta_{ij} - y_j)$, where $\delta_{ij}$ is 1 if $i = j$ and 0
# otherwise. But the product needs one sum ($\odot$ multiplies entry by entry),
#
# $$\partial x = y \odot \bigl(\partial y - \textstyle\sum_i \partial y_i\, y_i\bigr).$$

# %%
x = rng.standard_normal((1, 8))
y, cache = ops.softmax.forward(x)
J = np.diag(y[0]) - np.outer(y[0], y[0])  # (8,8)
dy = rng.standard_normal((1, 8))
(dx,) = ops.softmax.backward(dy, cache)
assert np.allclose(dx[0], J.T @ dy[0])

fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), width_ratios=(1, 1.3))
limit = np.abs(J).max()
image = axes[0].imshow(J, cmap="PuOr", vmin=-limit, vmax=limit)
axes[0].set(title="Jacobian of softmax", xlabel="input j", ylabel="output i")
fig.colorbar(image)
axes[1].plot(dx[0], "o-", label="backward")
axes[1].plot(J.T @ dy[0], "x", markersize=9, label="$J^T\\,\\partial y$")
axes[1].set(title="the same numbers, without J", xlabel="input j")
axes[1].legend()
plt.show()

# %% [markdown]
# ## How to know that it is right
#
# Building $J$ by differences, one input at a time, is too slow for a model. One equation is enough
# if its ingredients are random. $v$ is a random *nudge*, a direction in which the inputs are moved,
# and $\varepsilon$ says how far; $v$ has the shape of the inputs. $u$ takes the place of
# $\partial y$ and has the shape of the outputs; such an array is called a *cotangent*.
# $\langle a, b\rangle$ is the sum of all products $a_i b_i$. Then
#
# $$\langle u, Jv\rangle \;=\; \langle J^{\top}u, v\rangle .$$
#
# The right side is the backward at $x$. The left side is a central difference of the forward $f$,
#
# $$\langle u, Jv\rangle \approx \frac{\langle u,\; f(x + \varepsilon v)
#   - f(x - \varepsilon v)\rangle}{2\varepsilon} .$$
#
# They are two numbers; a wrong entry anywhere in $J^{\top}$ almost surely makes them differ.

# %%
v, u, eps = rng.standard_normal(x.shape), rng.standard_normal(x.shape), 1e-6
ahead, behind = (ops.softmax.forward(x + sign * eps * v)[0] for sign in (1, -1))
left = np.vdot(u, ahead - behind) / (2 * eps)
right = np.vdot(ops.softmax.backward(u, cache)[0], v)
print(f"⟨u, Jv⟩ = {left:.12f}\n⟨Jᵀu, v⟩ = {right:.12f}")
md.testing.check_backward(ops.softmax.forward, ops.softmax.backward, [x], rng)

# %% [markdown]
# **Why not a cotangent of ones?** Because $y$ sums to 1 whatever $x$ is, softmax sends ones to
# exactly zero. A test with ones accepts a backward that returns nothing at all:

# %%
print("Jᵀ·1 =", np.round(ops.softmax.backward(np.ones((1, 8)), cache)[0], 17))

try:
    md.testing.check_backward(ops.softmax.forward, lambda dy, cache: (np.zeros_like(dy),), [x], rng)
except AssertionError as error:
    print("with a random one:", error)

# %% [markdown]
# **How small a nudge?** Too large, and the curve is not straight ($\varepsilon^2$ of error); too
# small, and rounding drowns the difference (machine precision$/\varepsilon$). In float64 there is
# a wide valley around $10^{-6}$. In float32 there is hardly any, which is why derivatives are
# tested in float64 and kernels are then compared with them.

# %%
nudges = np.logspace(-12, 0, 49)
fig, ax = plt.subplots()
for dtype, label in ((np.float64, "float64"), (np.float32, "float32")):
    xs, vs, us = (a.astype(dtype) for a in (x, v, u))
    errors = []
    for nudge in nudges.astype(dtype):
        ahead, behind = (ops.softmax.forward(xs + s * nudge * vs)[0] for s in (1, -1))
        errors.append(abs(np.vdot(us, ahead - behind) / (2 * nudge) - right) / abs(right))
    ax.loglog(nudges, np.maximum(errors, 1e-16), label=label)
ax.set(xlabel="nudge ε", ylabel="relative error", title="central difference against the backward")
ax.legend()
plt.show()

# %% [markdown]
# ## Composition: read the forward upwards
#
# $y = f(g(x))$ has $J = J_f J_g$, so $J^{\top} = J_g^{\top} J_f^{\top}$: the *last* op goes back
# first. And where two ops read one value, its gradients add, since a change of it reaches the loss
# on both paths. These two rules suffice for the backward of a whole model. An example is the
# residual $y = x + \mathrm{gelu}(\mathrm{softmax}(x))$.


# %%
def residual(x):
    a, softmax = ops.softmax.forward(x)
    g, gelu = ops.gelu.forward(a)
    y, add = ops.add.forward(x, g)  # the sum and softmax read x
    return y, (softmax, gelu, add)


def residual_backward(dy, cache):
    softmax, gelu, add = cache
    dx, dg = ops.add.backward(dy, add)
    (da,) = ops.gelu.backward(dg, gelu)
    (dx_softmax,) = ops.softmax.backward(da, softmax)
    return (dx + dx_softmax,)  # so its gradients add


md.testing.check_backward(residual, residual_backward, [rng.standard_normal((3, 5))], rng)

# %% [markdown]
# The whole encoder of this package is such a pair of functions (chapter 6), and the same one
# equation tests it whole.
#
# **Why backwards at all?** A loss is one number and a model has millions of inputs. One backward,
# which costs about two forwards, gives the derivative with respect to all of them. By differences
# it would take two forwards for each of them.
#
# ## Exercise 1: unit length
#
# $y = x/r$ with $r = \sqrt{\textstyle\sum_c x_c^2}$, for one vector $x$. It reaches $y$ two ways:
# directly, and through $r$. Write `unit_backward(dy, x)`.


# %%
def unit_backward(dy, x):
    """dy (C,), x (C,)  ->  dx (C,)."""


# %%
lesson.check("unit_backward", unit_backward)

# %% [markdown]
# ## Exercise 2: write the test
#
# Write `disagreement(forward, backward, x, u, v)`: the absolute difference of the two sides of
# $\langle u, Jv\rangle = \langle J^{\top}u, v\rangle$. Use a central difference for the left side,
# with $\varepsilon = 10^{-6}$, and the cache of `forward(x)` for the right one. $v$ has the shape
# of `x`, $u$ that of `y`, and the two shapes may differ.


# %%
def disagreement(forward, backward, x, u, v):
    """forward(x) -> (y, cache), backward(dy, cache) -> (dx,)  ->  a float."""


# %%
lesson.check("disagreement", disagreement)

# %% [markdown]
# ## Your own DistilBERT
#
# `dropout` zeroes each value with probability `rate` and scales the others by $1/(1-\text{rate})$,
# so that the mean stays. The draw is `rng.random(x.shape)`; a value is kept where the draw is at
# least `rate`. Without an `rng` (in evaluation), or with rate 0, nothing changes. What has to be in
# the cache for `dropout_backward`? The cache of an evaluation has to work there, too.

# %%
lesson.check(2)

# %% [markdown]
# ## Summary
#
# * A backward computes $J^{\top}\partial y$ without building $J$; the cache holds what it needs.
# * One equation, $\langle u, Jv\rangle = \langle J^{\top}u, v\rangle$, tests it, with random $u$
#   and $v$. A cotangent of ones is sent to zero by softmax, so it accepts a backward of zeros.
# * Backwards compose in reverse order, and the gradients of a value that is read twice add up.
#
# [← 1 a tour](01_tour.ipynb) ·
# [3 linear and GELU →](03_linear_gelu.ipynb)
