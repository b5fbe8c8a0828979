# %% [markdown]
# # 5 · Attention, drawn
#
# [← 4 LayerNorm](04_layernorm.ipynb) ·
# [6 the encoder and its mirror →](06_encoder.ipynb) ·
# about 90 minutes
#
# Attention is the only part of the encoder in which tokens interact. Each token has a query, a key
# and a value. The output of a token is the sum of the values of all tokens of its sequence,
# weighted by the match of their keys with its query.
#
# **Question:** what goes wrong if the scores are not divided by $\sqrt D$? No error is raised, and
# the shapes are right.
#
# Code: [`ops/attention.py`](../minidistil/ops/attention.py) ·
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
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson
from minidistil.model.bundled_teacher import default_teacher

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
ops = md.backend("numpy", "float64")

# %% [markdown]
# ## One head, from scratch
#
# For one sequence of $T$ tokens and one head of $D$ channels, with $q, k, v$ of shape $(T,D)$:
#
# $$s = \frac{q}{\sqrt D}\,k^{\top}\;(T,T), \qquad a = \mathrm{softmax}_{\text{keys}}(s), \qquad
#   y = a\,v\;(T,D).$$


# %%
def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attend(q, k, v):
    """q, k, v (…,T,D)  ->  y (…,T,D), weights (…,T,T)."""
    a = softmax(q / math.sqrt(q.shape[-1]) @ k.swapaxes(-1, -2))
    return a @ v, a


T, D = 4, 8
q, k, v = (rng.standard_normal((T, D)) for _ in range(3))
y, a = attend(q, k, v)
print("weights of each query over the keys:\n", a.round(2))
assert np.allclose(a.sum(axis=-1), 1)

# %% [markdown]
# ## Several heads, several sequences
#
# The $C$ channels split into $H$ heads of $D = C/H$: heads are blocks of *channels*, and each
# attends on its own. The library has no padding inside: a batch is $N$ rows, real tokens only, and
# `bounds` says where each sequence begins. Attention runs within a sequence, so no score has to be
# masked.

# %%
H, C = 2, 16
bounds = np.array([0, 4, 9])  # a sequence of four tokens and one of five
q, k, v = (rng.standard_normal((9, C)) for _ in range(3))


def attention(q, k, v, bounds, n_heads):
    """q, k, v (N,C)  ->  y (N,C)."""
    y = np.empty_like(q)
    for first, last in pairwise(bounds):
        heads = [x[first:last].reshape(last - first, n_heads, -1).swapaxes(0, 1) for x in (q, k, v)]
        y[first:last] = attend(*heads)[0].swapaxes(0, 1).reshape(last - first, -1)
    return y


library, cache = ops.attention.forward(q, k, v, bounds=bounds, n_heads=H)
assert np.allclose(attention(q, k, v, bounds, H), library)

# %% [markdown]
# The usual way pads both sequences to five tokens and adds a large negative number to the scores
# of padding. The result is the same; the padded rows are computed as well, and discarded.

# %%
padded = np.zeros((3, 2, 5, C))
mask = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
padded[:, mask] = (q, k, v)
qh, kh, vh = padded.reshape(3, 2, 5, H, -1).swapaxes(2, 3)  # each (B,H,T,D)
scores = qh / math.sqrt(C // H) @ kh.swapaxes(-1, -2)
scores = np.where(mask[:, None, None, :], scores, -1e30)
same = (softmax(scores) @ vh).swapaxes(1, 2).reshape(2, 5, C)[mask]
assert np.allclose(same, library)

# %% [markdown]
# ## What the teacher's heads attend to
#
# Rows are queries, columns are keys, each row sums to 1.

# %%
folder = default_teacher()
teacher, tokenizer = md.from_pretrained(folder), md.load_tokenizer(folder)
batch = tokenizer(["the acting was [MASK], but i liked the music."])
tokens = [tokenizer.id_to_token(int(i)) for i in batch["input_ids"][0]]
attentions = teacher.forward(**batch, attentions=True).attentions

fig, axes = plt.subplots(1, 4, figsize=(10, 3.4), sharey=True)
for h, ax in enumerate(axes):
    image = ax.imshow(attentions[1][0, h], vmin=0, vmax=1)
    ax.set(title=f"layer 1, head {h}", xticks=range(len(tokens)), yticks=range(len(tokens)))
    ax.set_xticklabels(tokens, rotation=90, fontsize=8)
    ax.set_yticklabels(tokens, fontsize=8)
fig.colorbar(image, ax=axes, shrink=0.7, label="weight")
plt.show()

# %% [markdown]
# In this layer head 0 attends to the token before, heads 1 and 3 to `[CLS]`, and head 2 mostly to
# one word, *liked*. What the masked word attends to in each layer, as a mean over heads:

# %%
ask = tokens.index("[MASK]")
weights = np.array([layer[0, :, ask].mean(axis=0) for layer in attentions])  # (L,T)
fig, ax = plt.subplots(figsize=(7, 2.4))
image = ax.imshow(weights, aspect="auto")
ax.set(xticks=range(len(tokens)), yticks=range(len(weights)), ylabel="layer",
       title="what [MASK] attends to")  # fmt: skip
ax.set_xticklabels(tokens, rotation=90, fontsize=8)
fig.colorbar(image, label="weight")
plt.show()

# %% [markdown]
# In the first two layers the largest weight is that of `[CLS]`; in the last two the weights spread
# over the words.
#
# ## Why divide by $\sqrt D$
#
# If the entries of $q$ and $k$ have variance 1, the variance of $q\cdot k$ is $D$. Undivided, the
# scores grow with $\sqrt D$, softmax hardens into a choice of one key, and its gradient
# $a\odot(\partial a - \dots)$ vanishes. The *entropy* of the weights, $-\sum a \ln a$, shows it: it
# is 0 if one key has all the weight, and $\ln T$ if all $T$ keys have the same. Divided, the
# entropy does not depend on $D$.

# %%
dims, keys = [1, 4, 16, 64, 256, 1024], 64
entropy = {"q·k/√D": [], "q·k": []}
for dim in dims:
    for label, root in (("q·k/√D", math.sqrt(dim)), ("q·k", 1.0)):
        qs, ks = (rng.standard_normal((keys, dim)) for _ in range(2))
        w = softmax(qs @ ks.T / root)
        entropy[label].append(-(w * np.log(w + 1e-300)).sum(axis=1).mean())
fig, ax = plt.subplots()
for label, values in entropy.items():
    ax.semilogx(dims, values, marker="o", label=label)
ax.axhline(math.log(keys), color="0.6", linewidth=1)
ax.annotate("all 64 keys alike", (1, math.log(keys) + 0.08), color="0.3")
ax.set(xlabel="channels of a head, D", ylabel="entropy of the weights", ylim=(0, 4.8))
ax.legend()
plt.show()

# %% [markdown]
# ## Backward
#
# The three lines of the forward, read upwards. $v$ and $a$ are the two factors of a product, as
# $x$ and $W$ were in chapter 3; softmax was in chapter 2; $q$ and $k$ are two factors again:
#
# $$\partial v = a^{\top}\partial y, \quad \partial a = \partial y\,v^{\top}, \quad
#   \partial s = a\odot\Bigl(\partial a - \sum_{\text{keys}}\partial a\odot a\Bigr),$$
# $$\partial q = \frac{\partial s\,k}{\sqrt D}, \qquad
#   \partial k = \frac{\partial s^{\top} q}{\sqrt D}.$$


# %%
def attend_backward(dy, q, k, v):
    """dy, q, k, v (T,D)  ->  dq, dk, dv (T,D)."""
    root = math.sqrt(q.shape[-1])
    _, a = attend(q, k, v)
    dv, da = a.T @ dy, dy @ v.T
    ds = a * (da - (da * a).sum(axis=1, keepdims=True))
    return ds @ k / root, ds.T @ q / root, dv


one = [x[:4, :8] for x in (q, k, v)]
dy = rng.standard_normal((4, 8))
_, kept = ops.attention.forward(*one, bounds=np.array([0, 4]), n_heads=1)
for mine, theirs in zip(attend_backward(dy, *one), ops.attention.backward(dy, kept), strict=True):
    assert np.allclose(mine, theirs)

# %% [markdown]
# ## Without storing the weights
#
# $a$ has $T^2$ entries for each head. The library's kernels go through the keys a few at a time, in
# *tiles*. They keep, for each query, the largest score so far, $m$, and the sum
# $\ell = \sum e^{s-m}$. When a tile brings a
# larger score, what has been summed is rescaled by $e^{m_{\text{old}}-m_{\text{new}}}$. At the end,
# $m + \ln\ell$ is all that the backward needs to compute any weight again.


# %%
def attend_in_tiles(q, k, v, tile=3):
    q = q / math.sqrt(q.shape[1])
    m, l = np.full(len(q), -np.inf), np.zeros(len(q))  # (T,)
    y = np.zeros_like(v)
    for first in range(0, len(k), tile):
        s = q @ k[first : first + tile].T  # (T,tile): the only scores in memory
        larger = np.maximum(m, s.max(axis=1))
        e, shrink = np.exp(s - larger[:, None]), np.exp(m - larger)
        l = l * shrink + e.sum(axis=1)
        y = y * shrink[:, None] + e @ v[first : first + tile]
        m = larger
    return y / l[:, None]


long = [rng.standard_normal((50, 8)) for _ in range(3)]
assert np.allclose(attend_in_tiles(*long), attend(*long)[0])

lengths = np.array([128, 256, 512, 1024, 2048])
fig, ax = plt.subplots()
ax.loglog(lengths, 12 * lengths**2 * 4 / 2**20, marker="o", label="all weights, 12 heads")
ax.loglog(lengths, 12 * lengths * 4 / 2**20, marker="s", label="m + ln ℓ, 12 heads")
ax.set(xlabel="tokens of a sequence", ylabel="MB kept for backward", xticks=lengths)
ax.set_xticklabels(lengths)
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# ## Exercise 1: softmax, backward
#
# The formula is that of chapter 2, for several rows at once: each row has its own sum.


# %%
def softmax_backward(dy, y):
    """dy (N,T), y (N,T) the softmax of each row  ->  dx (N,T)."""


# %%
lesson.check("softmax_backward", softmax_backward)

# %% [markdown]
# ## Exercise 2: all heads, with a padding mask
#
# $q, k, v$ are $(B,T,C)$, the mask $(B,T)$ is true at tokens, false at padding. Only the keys have
# to be masked: the output at a padded query may be anything. This is the usual PyTorch
# implementation, and the check recognises the common mistakes in it.


# %%
def masked_attention(q, k, v, n_heads, mask):
    """q, k, v (B,T,C), mask (B,T)  ->  context (B,T,C)."""


# %%
lesson.check("masked_attention", masked_attention)

# %% [markdown]
# ## Your own DistilBERT
#
# `softmax` along the last axis, where $-\infty$ becomes 0, and its backward; then
# `attention_scores`, `attention_weights`, `attention` and `attention_backward`. `attention` applies
# `dropout` to the weights before they mix the values, $y = \mathrm{dropout}(a)\,v$, so on the way
# up its backward stands before that of softmax. `softmax`, `attention_scores` and
# `attention_weights` return their array alone, without a cache; `attention` returns $y$ and a
# cache. `config` has `H` and `dropout`; `split_heads` and `merge_heads` are there.

# %%
lesson.check(5)

# %% [markdown]
# ## Summary
#
# * Each query mixes the values of its sequence with weights that add up to 1 over the keys.
# * Undivided scores grow with $\sqrt D$: the softmax hardens into a choice of one key, and its
#   gradient vanishes. Nothing fails, the model learns badly.
# * Padding is masked as a key, or, as here, left out before anything is computed.
#
# [← 4 LayerNorm](04_layernorm.ipynb) ·
# [6 the encoder and its mirror →](06_encoder.ipynb)
