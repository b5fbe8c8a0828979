# %% [markdown]
# # 12 · Cross-checking, and the collection of bugs
#
# [← 11 the road to the machine's peak](11_matmul.ipynb) ·
# [13 CUDA puzzles →](13_cuda_puzzles.ipynb) ·
# about 45 minutes
#
# You have written your own attention, or LayerNorm, or distillation loss, perhaps in PyTorch, and
# it runs. Is it right? This chapter shows how close two results should be, *where* two
# implementations first differ, and *which* mistake is the cause.
#
# **Question:** two implementations differ by $10^{-4}$. Is that rounding or a bug?
#
# Code: [`testing.py`](../minidistil/testing.py) ·
# [`check/compare.py`](../minidistil/check/compare.py) ·
# [`check/explain.py`](../minidistil/check/explain.py)

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
from minidistil.check import explain, reference_ops
from minidistil.check.mistakes import mistakes_of
from minidistil.model.bundled_teacher import default_teacher

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)

# %% [markdown]
# ## How close should two results be?
#
# `np.allclose(mine, theirs, atol=1e-3)` accepts a wrong GELU and rejects a right logit of size
# 1000. A better measure is the rounding error of float32. Compute the result once in float64. A
# correct float32 implementation differs from it by rounding, and so does any other; one that is
# *much* further away computes something else.

# %%
folder = default_teacher()
tokenizer = md.load_tokenizer(folder)
batch = tokenizer(["the acting was [MASK], but i liked the music."])
exact = md.from_pretrained(folder, task="fill-mask", backend="numpy", dtype="float64")
single = md.from_pretrained(folder, task="fill-mask", backend="numpy")
kernel = md.from_pretrained(folder, task="fill-mask")
truth, theirs, mine = (
    model.forward(**batch, hidden_states=True).hidden_states for model in (exact, single, kernel)
)

fig, ax = plt.subplots()
for values, label, marker in ((theirs, "NumPy, float32", "o"), (mine, "kernels, float32", "s")):
    ax.semilogy([md.testing.rms(v - t) for v, t in zip(values, truth, strict=True)],
                marker=marker, label=label)  # fmt: skip
tanh_form = md.BertConfig(**{**exact.config.__dict__, "hidden_act": "gelu_new"})
other = md.from_config(tanh_form, task="fill-mask")
other.update(kernel.params)
wrong = other.forward(**batch, hidden_states=True).hidden_states
ax.semilogy([max(md.testing.rms(v - t), 1e-8) for v, t in zip(wrong, truth, strict=True)],
            marker="^", label="with the tanh form of GELU")  # fmt: skip
ax.set(xlabel="hidden state", ylabel="distance from float64", xticks=range(len(truth)))
ax.legend()
plt.show()

# %% [markdown]
# The two float32 results have similar errors; with the mistake, the error grows at the first GELU
# and stays far above. `compare` turns this into a rule: mine may be three times as far from float64
# as the other float32 answer is.

# %%
for i, (m, t, e) in enumerate(zip(mine, theirs, truth, strict=True)):
    error, allowed = md.testing.compare(f"hidden {i}", m, t, e)
    print(f"hidden {i}: {error:.1e}, allowed {allowed:.1e}")
try:
    md.testing.compare("hidden 1", wrong[1], theirs[1], truth[1])
except AssertionError as error:
    print("the other GELU:", error)

# %% [markdown]
# ## Gradients, by name
#
# Gradients come back under the checkpoint's own names, so comparing with PyTorch is a loop. The
# cell below does it where PyTorch and `transformers` are installed.

# %%
labels = np.where(batch["input_ids"] == tokenizer.mask_id, tokenizer.token_to_id("great"), -100)
grads = kernel.backward(kernel.forward(**batch, labels=labels))
truth_grads = exact.backward(exact.forward(**batch, labels=labels))
if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about progress bars
        import torch
        from transformers import BertForMaskedLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    module = BertForMaskedLM.from_pretrained(folder).float().eval()
    inputs = {name: torch.tensor(array) for name, array in batch.items()}
    module(**inputs, labels=torch.tensor(labels)).loss.backward()
    scale = max(md.testing.rms(g) for g in truth_grads.values())
    ratios = []  # measured here
    for name, parameter in module.named_parameters():
        error, allowed = md.testing.compare(
            name, grads[name], parameter.grad.numpy(), truth_grads[name], scale=scale
        )
        ratios.append(error / allowed)
    print(f"{len(ratios)} gradients compared with PyTorch's; the furthest used "
          f"{max(ratios):.0%} of what it may")  # fmt: skip
else:
    print("PyTorch is not installed here: pip install minidistil[check]")

# %% [markdown]
# ## Where do they first differ?
#
# `md.check.compare` takes any PyTorch module that holds a folder's weights, under any names, and
# finds the quantities inside it by their values. Here is transformers' own BERT with one
# mistake planted in its third layer; on the command line the same is
# `minidistil check --model FOLDER --against my_bert.py:build`.

# %%
if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
    agreed = md.check.compare(module, folder, texts=["the acting was bad."])
    print("unchanged:", agreed.verdict, f"in {len(agreed.rows)} quantities")
    module.bert.encoder.layer[2].intermediate.intermediate_act_fn = torch.nn.GELU("tanh")
    report = md.check.compare(module, folder, texts=["the acting was bad."])
    print("with the mistake:", report.verdict, "first in", report.first_difference)
    for diagnosis in report.diagnosis[:1]:
        print(diagnosis.message)
else:
    report = None
    print("PyTorch is not installed here: pip install minidistil[check]")

# %% [markdown]
# Every quantity in the order in which it is computed, as a picture: how many times further from
# float64 than float32 explains. Everything before the mistake agrees, everything after it inherits
# the error; so only the *first* difference says where to look.

# %%
if report is not None:
    inside = [r for r in report.rows if r.kind == "forward" and r.name.startswith("layer.")]
    parts = list(dict.fromkeys(row.name.split(".", 2)[2] for row in inside))
    depth = len(truth) - 1
    heat = np.full((depth, len(parts)), np.nan)
    for row in inside:
        _, layer, part = row.name.split(".", 2)
        heat[int(layer), parts.index(part)] = row.error / max(row.explained, 1e-8)
    fig, ax = plt.subplots(figsize=(7.5, 2.6))
    image = ax.imshow(np.log10(heat), vmin=0, vmax=4, aspect="auto")
    ax.set(yticks=range(depth), ylabel="layer", xticks=range(len(parts)))
    ax.set_xticklabels(parts, rotation=45, ha="right", fontsize=8)
    fig.colorbar(image, label="log₁₀ of the excess")
    plt.show()

# %% [markdown]
# ## Which mistake is it?
#
# Most wrong numbers have one of a few common causes. The library has a collection of mistakes, each
# a function that computes the wrong numbers. `explain` runs all that apply to an op, and names one
# only if it reproduces the attempt's numbers.

# %%
x, gamma, beta = rng.standard_normal((4, 8)), 1 + 0.3 * rng.random(8), rng.standard_normal(8)


def suspicious(x):
    return gamma * (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, ddof=1, keepdims=True) + beta


print(explain("layernorm", suspicious(x), x, gamma, beta, eps=0))

# %%
q, k, v = (rng.standard_normal((2, 5, 12)) for _ in range(3))
mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)


def my_attention(q, k, v, n_heads, mask):
    split, merge = reference_ops.heads(n_heads)
    s = split(q) @ split(k).swapaxes(2, 3) / math.sqrt(q.shape[2])
    return merge(reference_ops.weights(s, mask) @ split(v))


print(explain("attention", my_attention(q, k, v, 3, mask), q, k, v, n_heads=3, mask=mask))

# %% [markdown]
# An unknown mistake is not named, and a correct attempt gives None:

# %%
print(explain("layernorm", suspicious(x) + 0.1 * x, x, gamma, beta, eps=0))
fine = gamma * (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True) + beta
print("a right one:", explain("layernorm", fine, x, gamma, beta, eps=0))

# %% [markdown]
# ## How far off?
#
# Some mistakes change the numbers a lot, others little. The picture shows the relative error of the
# collection's mistakes in attention and in the losses. Those below the dashed line pass a tolerance
# of $10^{-3}$.

# %%
tau, student, other_logits = 2.0, rng.normal(0, 2, (2, 5, 9)), rng.normal(0, 2, (2, 5, 9))
split, _ = reference_ops.heads(3)
scores = reference_ops.scores(split(q), split(k))
wide = rng.standard_normal((6, 64))
cases = {
    "layernorm": ((wide, 1 + 0.1 * rng.random(64), rng.standard_normal(64)), {"eps": 1e-12}),
    "activation": ((wide,), {"name": "gelu"}),
    "scores": ((split(q), split(k)), {}),
    "weights": ((scores, mask), {}),
    "kl_div": ((student, other_logits), {"mask": mask, "tau": tau}),
    "cosine": ((q, k), {"mask": mask}),
}
distances = {}
for op, (inputs, fixed) in cases.items():
    wanted = np.asarray(reference_ops.RIGHT[op](*inputs, **fixed))
    for bug in mistakes_of(op):
        for _, function in bug.forms():
            with np.errstate(all="ignore"):
                try:
                    found = np.asarray(function(*inputs, **fixed), np.float64)
                except (TypeError, ValueError, AttributeError):
                    continue  # a form that needs more than these inputs
            if found.shape == wanted.shape and np.isfinite(found).all():
                off = md.testing.rms(found - wanted) / md.testing.rms(wanted)
                distances[bug.id] = min(off, distances.get(bug.id, off))
distances = {name: off for name, off in distances.items() if off > 0}

names = sorted(distances, key=distances.get)
fig, ax = plt.subplots(figsize=(7, 0.23 * len(names) + 1))
ax.plot([distances[name] for name in names], names, "o", color="#006BA4")
ax.axvline(1e-3, color="#C85200", linestyle="--", linewidth=1.5)
ax.set(xscale="log", xlabel="distance from the right numbers (its mildest form)")
ax.tick_params(axis="y", labelsize=8)
ax.grid(axis="y", color="0.9")
plt.show()

# %% [markdown]
# ## The collection
#
# All known mistakes by op, and the message of the first.

# %%
from minidistil.check.mistakes.registry import CATALOGUE

for op in dict.fromkeys(bug.op for bug in CATALOGUE):
    ids = list(dict.fromkeys(bug.id for bug in CATALOGUE if bug.op == op))
    print(f"{op:14s}", ", ".join(ids))
first = mistakes_of("kl_div")[0]
print(f"\n{first.id}\n{first.message()}")

# %% [markdown]
# ## Exercise 1: find the bug
#
# `colleague` computes the cosine loss of chapter 8 over real tokens, and is off. Look at its
# numbers before you look at its source, then write `repaired`.


# %%
def colleague(student, teacher, mask):
    a, b = student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1])
    cos = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return float(np.mean(1 - cos))


print("colleague:", colleague(q, k, mask), " right:", reference_ops.cosine(q, k, mask=mask))
print(
    "first text alone:",
    colleague(q[:1], k[:1], mask[:1]),
    reference_ops.cosine(q[:1], k[:1], mask=mask[:1]),
)
print(
    "second text alone:",
    colleague(q[1:], k[1:], mask[1:]),
    reference_ops.cosine(q[1:], k[1:], mask=mask[1:]),
)


# %%
def repaired(student, teacher, mask):
    """student, teacher (B,T,C), mask (B,T) bool  ->  a float."""


# %%
lesson.check("repaired", repaired)

# %% [markdown]
# ## Exercise 2: your own
#
# Take an op that you have written in another course, or ask a friend for theirs with one mistake
# planted, and pass its numbers to `explain`. If the mistake is unknown, the message says so: it is
# a new one for the collection.

# %% [markdown]
# ## Summary
#
# * Rounding is measured: a float32 result may be about as far from float64 as another one is.
#   Whether $10^{-4}$ is a bug depends on that distance, and not on $10^{-4}$.
# * Only the first difference says where to look; everything behind it inherits the error.
# * A mistake is named if it reproduces the numbers.
#
# [← 11 the road to the machine's peak](11_matmul.ipynb) ·
# [13 CUDA puzzles →](13_cuda_puzzles.ipynb)
