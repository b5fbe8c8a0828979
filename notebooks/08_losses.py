# %% [markdown]
# # 8 · The losses: why τ², why −100, why cosine
#
# [← 7 tokenizer, embeddings, masking](07_tokens.ipynb) ·
# [9 a student learns →](09_student.ipynb) ·
# about 75 minutes
#
# DistilBERT is trained with three losses. Their targets are the masked word of the text, the
# teacher's probabilities of all words, and the direction of the teacher's last hidden states. Each
# has one detail that needs an explanation.
#
# **Question:** the soft loss is multiplied by $\tau^2$. Where does the square come from?
#
# Code: [`ops/kl_div.py`](../minidistil/ops/kl_div.py) ·
# [`ops/cross_entropy.py`](../minidistil/ops/cross_entropy.py) ·
# [`ops/cosine.py`](../minidistil/ops/cosine.py) ·
# [`distill/triple_loss.py`](../minidistil/distill/triple_loss.py)

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
from minidistil import lesson, losses
from minidistil.model.bundled_teacher import default_teacher

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
folder = default_teacher()
tokenizer = md.load_tokenizer(folder)
teacher = md.from_pretrained(folder, task="fill-mask")

# %% [markdown]
# ## Soft targets
#
# A label is one word: *terrible*. The teacher's probabilities contain more: *horrible* and *boring*
# are plausible too, *green* is not. Dividing the logits by a temperature $\tau$ before the softmax
# enlarges the small probabilities. The picture has the teacher's ten most probable words and,
# apart from them, *green*, whose probability is nearly 0:
#
# $$t_v = \frac{e^{z_v/\tau}}{\sum_w e^{z_w/\tau}} .$$

# %%
batch = tokenizer(["the acting was [MASK] and the story even worse."])
ask = int(np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_id)[0])
z = teacher.forward(**batch).logits[0, ask].astype(np.float64)  # (V,)


def soften(z, tau):
    e = np.exp((z - z.max()) / tau)
    return e / e.sum()


best = np.argsort(-z)[:10]
shown = [*best, tokenizer.token_to_id("green")]
words = [tokenizer.id_to_token(int(i)) for i in shown]
places = np.array([*range(10), 11])  # green stands apart
fig, ax = plt.subplots()
for shift, tau, hatch, colour in (
    (-0.27, 1, "", "#006BA4"), (0, 2, "//", "#FFBC79"), (0.27, 4, "..", "#ABABAB")
):  # fmt: skip
    ax.bar(places + shift, soften(z, tau)[shown], 0.27, label=f"τ = {tau}", hatch=hatch,
           color=colour, edgecolor="black", linewidth=0.5)  # fmt: skip
ax.set(ylabel="probability", title="the acting was [MASK] and the story even worse.")
ax.set_xticks(places, words, rotation=30)
ax.legend()
plt.show()
for tau in (1, 2, 4, 8):
    p = soften(z, tau)
    print(f"τ = {tau}: the ten most probable words have {p[best].sum():.0%}, "
          f"entropy {-(p * np.log(p)).sum():.2f} of {np.log(len(p)):.2f}")  # fmt: skip

# %% [markdown]
# The loss is the divergence of the student's distribution from the teacher's,
#
# $$\mathrm{KL}(t\,\|\,p) = \sum_v t_v \ln\frac{t_v}{p_v}, \qquad
#   \frac{\partial\,\mathrm{KL}}{\partial z_v} = \frac{p_v - t_v}{\tau} .$$
#
# $p$ is the softmax of the student's logits $z$, divided by the same $\tau$. The order of $t$ and
# $p$ matters: the teacher's probabilities are the weights of the mean.
#
# ## Why τ²
#
# One $1/\tau$ is visible in the gradient. The second hides in $p - t$: at high temperature both are
# nearly flat, $p_v \approx \frac1V(1 + z_v/\tau)$, so their difference shrinks as $1/\tau$ too.
# Multiplied by $\tau^2$, the soft loss keeps its weight against the others whatever $\tau$ is, once
# $\tau$ is large enough for this approximation. In the picture the line of τ²·KL is nearly level
# from about $\tau = 6$.

# %%
student_z = z + rng.normal(0, 1.5, z.shape)
taus = np.logspace(0, 2, 30)
plain, scaled = [], []
for tau in taus:
    _, d = losses.kl_divergence(student_z[None], z[None], tau, scale=False)
    plain.append(np.linalg.norm(d))
    scaled.append(np.linalg.norm(d) * tau**2)
fig, ax = plt.subplots()
ax.loglog(taus, plain, label="KL")
ax.loglog(taus, scaled, label="τ²·KL")
ax.loglog(taus, plain[-1] * (taus[-1] / taus) ** 2, color="0.5", linewidth=1, label="slope −2")
ax.set(xlabel="temperature τ", ylabel="size of the gradient")
ax.legend()
plt.show()

# %% [markdown]
# What is the limit? For large $\tau$ the gradient of $\tau^2\mathrm{KL}$ is that of half the
# squared difference of the logits, divided by $V$, where each row of logits is centred: its mean is
# subtracted. Soft targets with a high temperature are therefore a regression on the teacher's
# logits (Hinton et al., 2015, §2.1). In the lines that are printed, s and t are the centred logits
# of student and teacher.

# %%
difference = (student_z - student_z.mean()) - (z - z.mean())
for tau in (2, 20, 200):
    _, d = losses.kl_divergence(student_z[None], z[None], tau)
    off = np.linalg.norm(d[0] - difference / len(z)) / np.linalg.norm(difference / len(z))
    print(f"τ = {tau:3d}: {off:.1%} away from (z_s − z_t)/V")

# %% [markdown]
# ## One name, four numbers
#
# "The distillation loss" is not the same number in every code base. Seven of them give four
# different numbers for the same logits. Each line says what is computed, over what the mean runs,
# and whether $\tau^2$ is a factor:

# %%
S, Z, tau = rng.normal(0, 2, (6, 50)), rng.normal(0, 2, (6, 50)), 2.0
kl_rows = losses.kl_divergence(S, Z, tau, scale=False)[0]  # KL, mean over the rows
t = np.array([soften(row, tau) for row in Z])
entropy = -(t * np.log(t)).sum(axis=1).mean()
V = S.shape[1]
codes = {
    "Hugging Face: KL, tokens, τ²": kl_rows * tau**2,
    "TextBrewer: cross entropy, rows": kl_rows + entropy,
    "torchdistill: KL, batch, τ²": kl_rows * tau**2,
    "TinyBERT: cross entropy, rows·classes": (kl_rows + entropy) / V,
    "PKD: KL, rows·classes, τ²": kl_rows * tau**2 / V,
    "neural-compressor KL: rows·classes, τ²": kl_rows * tau**2 / V,
    "sentence-transformers: KL, batch, τ²": kl_rows * tau**2,
}
for label, value in codes.items():
    print(f"{value:8.4f}  {label}")
assert np.isclose(
    losses.kl_divergence(S, Z, tau, reduction="mean")[0], codes["PKD: KL, rows·classes, τ²"]
)

# %% [markdown]
# A cross entropy differs from KL by the teacher's own entropy, a constant: other value, same
# gradient. A mean over rows *and* classes is $V$ times smaller: with $V = 30522$ the loss has
# practically no weight, and no error message says so.
#
# ## Why −100
#
# In a batch of 1000 tokens 150 are labelled. The others have the label −100, which both the sum and
# the *count* ignore. If they are counted, the loss is seven times too small:

# %%
logits, labels = rng.standard_normal((20, 8)), np.full(20, -100)
labels[[3, 7, 11]] = [1, 0, 5]
loss, dlogits = losses.cross_entropy(logits, labels)
print(f"mean over the 3 labelled rows {loss:.4f}")
print("rows with a gradient:", np.flatnonzero(np.abs(dlogits).sum(axis=1)))
print(f"divided by all 20 rows        {loss * 3 / 20:.4f}")
try:
    losses.cross_entropy(logits, np.full(20, -100))
except ValueError as error:
    print("no label at all:", error)

# %% [markdown]
# Why not 0? Because 0 is a word (here `[PAD]`). A negative number can be no word, and −100 is what
# PyTorch ignores by default.
#
# ## Why cosine
#
# The third loss compares the last hidden states $a$ of the student and $b$ of the teacher by
# direction alone, $1 - \cos(a, b)$. The head reads them through linear layers and LayerNorm, so the
# length matters little; a squared error would also penalise it. The gradient is perpendicular to
# $a$: a step changes its direction, not its length.

# %%
a, b = np.array([1.0, 0.3]), np.array([0.4, 1.2])
_, turn = losses.cosine(a[None], b[None])
_, pull = losses.mse(a[None], b[None])
print("a · gradient of the cosine loss:", float(a @ turn[0]))

fig, ax = plt.subplots(figsize=(4.5, 3.6))
for vector, label, colour, style in (
    (a, "student", "#006BA4", "-"), (b, "teacher", "#C85200", "--")
):  # fmt: skip
    ax.plot([0, vector[0]], [0, vector[1]], color=colour, linestyle=style, label=label)
for gradient, label, colour in ((turn[0], "cosine", "black"), (pull[0], "squared error", "0.55")):
    end = a - 0.45 * gradient / np.linalg.norm(gradient)
    ax.annotate("", end, a, arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
    side = "left" if label == "cosine" else "right"
    ax.text(end[0], end[1] + 0.03, label, color=colour, ha=side)
ax.set(xlim=(0, 1.4), ylim=(0, 1.3), title="where each loss moves the student")
ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## All three together
#
# $$\text{loss} = 5\,L_{\text{ce}} + 2\,L_{\text{mlm}} + 1\,L_{\text{cos}}$$
#
# are the weights of the released DistilBERT. The numbers of one batch, and what the library's one
# call makes of them:

# %%
student = md.student_from(teacher, layers=(0, 2))
texts = tokenizer(["a film with a heart of gold.", "i did not like the end of this movie."])
labels = np.full_like(texts["input_ids"], -100)
labels[0, 2], labels[1, 4] = texts["input_ids"][0, 2], texts["input_ids"][1, 4]
texts["input_ids"][[0, 1], [2, 4]] = tokenizer.mask_id
mine, theirs = (m.forward(**texts, hidden_states=True) for m in (student, teacher))
real = texts["attention_mask"]
ce, _ = losses.kl_divergence(mine.logits, theirs.logits, 2.0, mask=real)
mlm, _ = losses.cross_entropy(mine.logits, labels)
cos, _ = losses.cosine(mine.last_hidden_state, theirs.last_hidden_state, mask=real)
step = md.distill_step(student, teacher, {**texts, "labels": labels}, md.DistillConfig())
for name, by_hand in (("ce", ce), ("mlm", mlm), ("cos", cos)):
    print(f"{name:4s} by hand {by_hand:.6f}, distill_step {step.parts[name]:.6f}")
    assert abs(by_hand - step.parts[name]) < 1e-5 * by_hand
assert abs(5 * ce + 2 * mlm + cos - step.loss) < 1e-4

# %% [markdown]
# Padding is excluded everywhere by `mask=real`; omitting it is a common mistake (chapter 12 has a
# collection).
#
# ## Exercise 1: the soft loss
#
# Logits $(N,V)$ of student and teacher and $\tau$ go in; the loss comes out, as Hugging Face has
# it: $\tau^2$ times the mean over the rows of $\mathrm{KL}(t\|p)$. The check names the
# common mistakes.


# %%
def soft_loss(student, teacher, tau):
    """student, teacher (N,V)  ->  a float."""


# %%
lesson.check("soft_loss", soft_loss)

# %% [markdown]
# ## Exercise 2: its gradient with respect to the student's logits


# %%
def soft_gradient(student, teacher, tau):
    """student, teacher (N,V)  ->  dstudent (N,V)."""


# %%
lesson.check("soft_gradient", soft_gradient)

# %% [markdown]
# ## Your own DistilBERT
#
# `kl_divergence`, `cross_entropy` and `cosine`. Each returns its value and its gradient with
# respect to the student. `cross_entropy` gets only the rows that have a label: those with −100 are
# removed before the call, in chapter 9. If none is left, $N$ is 0, and so is the loss. With $a$ the
# student's vector and $b$ the teacher's, the cosine of a row has the gradient (chapter 2, exercise
# 1)
#
# $$\frac{\partial \cos}{\partial a} = \frac{b}{|a||b|} - \cos\frac{a}{|a|^2},$$
#
# where `EPS` is added to $|a|^2$ and to $|b|^2$.

# %%
lesson.check(8)

# %% [markdown]
# ## Summary
#
# * The gradient of the soft loss has one $1/\tau$ of its own and, for large $\tau$, one in $p - t$:
#   $\tau^2$ makes up for both, so the loss keeps its weight.
# * −100 is a label that is left out of the sum and of the count.
# * The cosine loss turns the student's vectors and leaves their length alone.
#
# [← 7 tokenizer, embeddings, masking](07_tokens.ipynb) ·
# [9 a student learns →](09_student.ipynb)
