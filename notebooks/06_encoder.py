# %% [markdown]
# # 6 · The encoder and its mirror
#
# [← 5 attention](05_attention.ipynb) ·
# [7 tokenizer, embeddings, masking →](07_tokens.ipynb) ·
# about 90 minutes
#
# An encoder is embeddings and then $L$ times the same block. Its backward is the same list of ops,
# from the last to the first. This chapter builds a block, records both directions of a real model,
# and compares them.
#
# **Question:** in ten blocks without residual sums, does the gradient vanish?
#
# Code: [`model/encoder.py`](../minidistil/model/encoder.py)

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
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson
from minidistil.model import network
from minidistil.model.bundled_teacher import default_teacher

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
ops = md.backend("numpy", "float64")

# %% [markdown]
# ## The block
#
# $$u = \mathrm{LN}\bigl(x + W_o\,\mathrm{attention}(W_q x, W_k x, W_v x)\bigr), \qquad
#   y = \mathrm{LN}\bigl(u + W_2\,\mathrm{gelu}(W_1 u)\bigr)$$
#
# The biases are left out of the formulas. Twice the same pattern: the result of a *branch* is added
# to its own input, then the sum is normalised. Such a sum is called *residual*, and the line of
# sums and LayerNorms, at the left of the picture, is the *stream*. BERT and DistilBERT normalise
# after the sum ("post-LN"), GPT-2 before the branch ("pre-LN").

# %%
boxes = [
    ("x", 0.2, 0), ("q, k, v", 0.8, 1), ("attention", 0.8, 2), ("out", 0.8, 3),
    ("+", 0.2, 4), ("LayerNorm", 0.2, 5), ("lin1", 0.8, 6), ("gelu", 0.8, 7), ("lin2", 0.8, 8),
    ("+ ", 0.2, 9), ("LayerNorm ", 0.2, 10), ("y", 0.2, 11),
]  # fmt: skip
arrows = [
    ("x", "q, k, v"), ("q, k, v", "attention"), ("attention", "out"), ("out", "+"), ("x", "+"),
    ("+", "LayerNorm"), ("LayerNorm", "lin1"), ("lin1", "gelu"), ("gelu", "lin2"),
    ("lin2", "+ "), ("LayerNorm", "+ "), ("+ ", "LayerNorm "), ("LayerNorm ", "y"),
]  # fmt: skip
at = {name: (left, -down) for name, left, down in boxes}
fig, ax = plt.subplots(figsize=(5, 5.5))
for a, b in arrows:
    ax.annotate("", at[b], at[a], arrowprops={"arrowstyle": "->", "shrinkA": 10, "shrinkB": 10})
for name, (left, down) in at.items():
    style = {"boxstyle": "round", "facecolor": "#FFBC79" if "+" in name else "white"}
    ax.text(left, down, name.strip(), ha="center", va="center", bbox=style)
ax.annotate("the stream", (0.2, -11.6), ha="center")
ax.annotate("the branches", (0.8, -11.6), ha="center")
ax.set(xlim=(0, 1), ylim=(-12, 0.6))
ax.axis("off")
plt.show()

# %% [markdown]
# ## Record a model at work
#
# The model calls its ops through one object. An object that records each call before it forwards it
# therefore shows every op, and the model stays unchanged.


# %%
class Recorder:
    """A backend that notes which op is called, and in which direction."""

    def __init__(self, inner):
        self.inner, self.calls = inner, []
        self.name, self.dtype, self.place = inner.name, inner.dtype, inner.place

    def __getattr__(self, op):
        pair = getattr(self.inner, op)

        def noted(direction):
            def call(*args, **fixed):
                self.calls.append((direction, op))
                return getattr(pair, direction)(*args, **fixed)

            return call

        return SimpleNamespace(forward=noted("forward"), backward=noted("backward"))


config = md.DistilBertConfig(
    vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=8
)
model = md.from_config(config, task="fill-mask", seed=0)
recorder = Recorder(model.ops)
watched = model.with_ops(recorder)
ids = rng.integers(5, 30, (2, 6))
out = watched.forward(ids, labels=ids)
_ = watched.backward(out)

# %% [markdown]
# Sums of gradients (`add.forward` during the backward) are left out: they occur where two ops read
# one value. The remaining list is a palindrome.

# %%
turn = next(i for i, (direction, _) in enumerate(recorder.calls) if direction == "backward")
up = [op for _, op in recorder.calls[:turn] if op != "cross_entropy"]
down = [op for d, op in recorder.calls[turn:] if d == "backward" and op != "cross_entropy"]
print(f"{'forward, downwards':24s} backward, upwards")
for a, b in zip(up, reversed(down), strict=False):
    print(f"{a:24s} {b}")

# %% [markdown]
# `add_layernorm` and `linear_gelu` are two ops each, done in one pass over memory. Three linears in
# a row are `q`, `k` and `v`, which are independent. The last three lines are the head. The list
# does not show that the word table is used twice, for the embedding and for the projection onto the
# vocabulary, so its gradient is the sum of both.
#
# ## The stream
#
# A block adds to its input and normalises. How far does each block move a token, and how far has
# it come from the embedding?

# %%
folder = default_teacher()
teacher, tokenizer = md.from_pretrained(folder, task="fill-mask"), md.load_tokenizer(folder)
batch = tokenizer(["the acting was [MASK], but i liked the music and the end."])
tokens = [tokenizer.id_to_token(int(i)) for i in batch["input_ids"][0]]
hidden = np.stack(teacher.forward(**batch, hidden_states=True).hidden_states)[:, 0]  # (L+1,T,C)


def cosine(a, b):
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(1, 1.4))
layers = np.arange(len(hidden))
axes[0].plot(layers, cosine(hidden, hidden[0]).mean(1), marker="o", label="with the embedding")
axes[0].plot(layers[1:], cosine(hidden[1:], hidden[:-1]).mean(1), marker="s",
             label="with the layer before")  # fmt: skip
axes[0].set(xlabel="hidden state", ylabel="cosine", ylim=(0, 1.02), xticks=layers)
axes[0].legend()
near = cosine(hidden[-1][:, None], hidden[-1][None])
image = axes[1].imshow(near, vmin=-1, vmax=1, cmap="PuOr")
axes[1].set(title="last hidden states, token against token", xticks=[], yticks=range(len(tokens)))
axes[1].set_yticklabels(tokens, fontsize=7)
fig.colorbar(image)
plt.show()

# %% [markdown]
# The first two blocks change the direction of a token little, the third most. In the right picture
# the darkest cells off the diagonal are equal words: the last hidden states of the three *the* are
# alike.
#
# ## What the sums are for
#
# At a sum the gradient flows into both terms *unchanged*, so there is a way from the loss to the
# embeddings on which nothing is multiplied by a weight. It is often said that without it the
# gradient vanishes. With a LayerNorm it does not: that op divides by the row's size, and its
# backward divides the gradient by it. What is lost is not the size but the *direction*. Ten
# fresh blocks, with the sums and without; how much of the loss's gradient is still recognisable
# further down?


# %%
def block(x, p, residual):
    """A block's feed-forward half, from the library's ops: x (N,C)  ->  y (N,C), backward."""
    h, lin1 = ops.linear.forward(x, p["W1"], p["b1"])
    g, bend = ops.gelu.forward(h)
    f, lin2 = ops.linear.forward(g, p["W2"], p["b2"])
    y, norm = ops.layernorm.forward(x + f if residual else f, p["gamma"], p["beta"])

    def backward(dy):
        ds, _, _ = ops.layernorm.backward(dy, norm)
        dg, _, _ = ops.linear.backward(ds, lin2)
        (dh,) = ops.gelu.backward(dg, bend)
        dx, _, _ = ops.linear.backward(dh, lin1)
        return ds + dx if residual else dx

    return y, backward


def fresh(C, F):
    return {"W1": rng.normal(0, 0.1, (F, C)), "b1": np.zeros(F), "W2": rng.normal(0, 0.1, (C, F)),
            "b2": np.zeros(C), "gamma": np.ones(C), "beta": np.zeros(C)}  # fmt: skip


depth, C, F = 10, 32, 64
fig, axes = plt.subplots(1, 2)
for residual, label in ((True, "x + branch"), (False, "branch alone")):
    x, backwards = rng.standard_normal((20, C)), []
    for _ in range(depth):
        x, backward = block(x, fresh(C, F), residual)
        backwards.append(backward)
    top = d = rng.standard_normal(x.shape)
    alike, length = [1.0], [1.0]
    for backward in reversed(backwards):
        d = backward(d)
        alike.append(cosine(d, top).mean())
        length.append(np.linalg.norm(d) / np.linalg.norm(top))
    axes[0].plot(alike, marker="o", label=label)
    axes[1].plot(length, marker="o", label=label)
axes[0].set(xlabel="blocks passed, from the top", ylabel="cosine with the gradient at the top")
axes[0].legend()
axes[1].set(xlabel="blocks passed, from the top", ylabel="length against that at the top", ylim=0)
plt.show()

# %% [markdown]
# With the sums the cosine is still about 0.7 after ten blocks. Without them it is near 0 after one,
# while the length stays near 1.
#
# ## Every gradient, tested by one number
#
# Chapter 2's equation holds for the whole model: move all parameters at once along a random
# direction, and the loss must change by ⟨gradient, direction⟩.

# %%
exact = model.with_ops(ops)
grads = exact.backward(exact.forward(ids, labels=ids))
nudge = {name: rng.standard_normal(g.shape) for name, g in grads.items()}
rows = model.pack(ids)


def loss_at(eps):
    """The loss with every parameter moved: the model is a function of a dictionary."""
    moved = {
        role: model.params[name].astype(np.float64) + eps * nudge[name]
        for role, name in model.names.items()
    }
    result, _ = network.forward(moved, rows, config, "fill-mask", None, ops)
    return md.losses.cross_entropy(result.logits, rows.ids)[0]


by_difference = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
by_backward = sum(np.vdot(grads[name], nudge[name]) for name in grads)
print(f"by difference {by_difference:.9f}\nby backward   {by_backward:.9f}")
assert abs(by_difference - by_backward) < 1e-6 * abs(by_backward)

# %% [markdown]
# ## Exercise: the backward of the feed-forward sublayer
#
# The forward below is five lines. Write its backward from the ops' backwards, in reverse order.
# Each returns a tuple with one gradient for each argument of its forward:
# `ops.layernorm.backward(dy, norm)` returns `ds, dgamma, dbeta`. Two ops read `u`. Of the
# parameters only the gradients of `W1` and `W2` are asked for.


# %%
def half(u, p):
    """u (N,C)  ->  y (N,C) = LN(u + lin2(gelu(lin1(u)))), cache."""
    h, lin1 = ops.linear.forward(u, p["W1"], p["b1"])
    g, bend = ops.gelu.forward(h)
    f, lin2 = ops.linear.forward(g, p["W2"], p["b2"])
    s, add = ops.add.forward(u, f)
    y, norm = ops.layernorm.forward(s, p["gamma"], p["beta"])
    return y, (lin1, bend, lin2, add, norm)


def half_backward(dy, cache):
    """dy (N,C), cache  ->  du (N,C), dW1 (F,C), dW2 (C,F)."""


# %%
lesson.check("half_backward", half_backward)

# %% [markdown]
# ## Your own DistilBERT
#
# `block` and `block_backward`, from the functions that you have. The parameters of layer `i` are
# those whose names begin with `layer.{i}.`, and `of(params, f"layer.{i}.lin1")` gives a weight and
# its bias. In the order of the computation the names are:
#
# | | |
# |---|---|
# | linear layers of the attention | `q`, `k`, `v`, `out` |
# | LayerNorm after the first sum | `attention_norm` |
# | linear layers of the feed-forward | `lin1`, `lin2` |
# | LayerNorm after the second sum | `output_norm` |
#
# Dropout acts on the output of `lin2`, before the sum, and on the attention's weights, where your
# `attention` has it. The gradients come back as a dict under the names without `layer.{i}.`, such
# as `lin1.weight`.

# %%
lesson.check(6)

# %% [markdown]
# ## Summary
#
# * The backward of a block is its forward read upwards: the list of ops is a palindrome.
# * Where a value is read twice, its gradients add: at the residual sums, and at the word table.
# * Without residual sums LayerNorm keeps the gradient's length; what is lost is its direction.
#
# [← 5 attention](05_attention.ipynb) ·
# [7 tokenizer, embeddings, masking →](07_tokens.ipynb)
