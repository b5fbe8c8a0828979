# %% [markdown]
# # 7 · Tokenizer, embeddings, masking
#
# [← 6 the encoder and its mirror](06_encoder.ipynb) ·
# [8 the losses →](08_losses.ipynb) ·
# about 50 minutes
#
# Three steps precede the first matrix product: the text is split into pieces, each piece is
# replaced by a vector, and some pieces are masked for the model to predict.
#
# **Question:** `dtable[ids] += dy` looks like the backward of a table lookup. For which texts is it
# wrong?
#
# Code: [`data/tokenizer.py`](../minidistil/data/tokenizer.py) ·
# [`ops/embedding.py`](../minidistil/ops/embedding.py) ·
# [`data/masking.py`](../minidistil/data/masking.py)

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
from minidistil.data import Masking, Vocabulary, mask_tokens, train_wordpiece
from minidistil.model.bundled_teacher import default_teacher

plt.style.use(lesson.STYLE)
rng = np.random.default_rng(0)
ops = md.backend("numpy", "float64")
folder = default_teacher()
tokenizer = md.load_tokenizer(folder)

# %% [markdown]
# ## WordPiece
#
# A word is split greedily: first the longest piece of the vocabulary that starts it, then the
# longest that continues it, marked with `##`. A frequent word is one piece, a rare one is several.
# A word is unknown, `[UNK]`, only if no piece fits somewhere, for example at a letter that the
# vocabulary does not have.

# %%
for word in ("movie", "unwatchable", "cinematographer", "zeitgeist", "☃"):
    print(f"{word:18s}", *tokenizer.encode(word).tokens[1:-1])

# %% [markdown]
# Such a vocabulary is learned from text: it starts with letters, and repeatedly merges the most
# frequent pair of neighbouring pieces into a new piece. A small one from a few lines:

# %%
lines = [
    "the cat sat on the mat", "the cats sat on the mats", "a cat and a hat",
    "the hats of the cats", "that cat chased a rat", "rats and bats and cats and hats",
] * 4  # fmt: skip
for vocabulary in (40, 60, 80):
    small = train_wordpiece(lines, vocabulary)
    print(f"{vocabulary} pieces:", *small.encode("the cats chased that rat").tokens[1:-1])

# %% [markdown]
# ## A table with one row for each piece
#
# $$y_n = \text{table}[\text{id}_n]$$
#
# is a matrix product with one-hot rows, without the product. Its backward adds to the row that was
# read, and a row that several tokens share receives the *sum*:
#
# $$\partial\text{table}[v] = \sum_{n:\ \text{id}_n = v}\partial y_n .$$

# %%
table = rng.standard_normal((6, 3))
ids = np.array([2, 5, 2, 0])
dy = np.ones((4, 3))
onehot = np.eye(6)[ids]  # (N,V)
assert np.allclose(onehot @ table, ops.embedding.forward(table, ids=ids)[0])
_, cache = ops.embedding.forward(table, ids=ids)
(dtable,) = ops.embedding.backward(dy, cache)
assert np.allclose(onehot.T @ dy, dtable)

# A common mistake: with repeated ids, NumPy keeps only one of the additions.
wrong = np.zeros_like(table)
wrong[ids] += dy
print("row 2 was read twice:", dtable[2], "but `d[ids] += dy` says", wrong[2])

# %% [markdown]
# ## Similar words in the table of a trained model
#
# The teacher was trained only to predict masked words. Words that fit the same contexts have
# similar embeddings.

# %%
teacher = md.from_pretrained(folder, task="fill-mask")
word = teacher.canonical()["embeddings.word.weight"].astype(np.float64)  # (V,C)
unit = word / np.linalg.norm(word, axis=1, keepdims=True).clip(1e-9)
for probe in ("good", "actor", "john", "three", "watched"):
    near = np.argsort(-unit @ unit[tokenizer.token_to_id(probe)])[1:7]
    print(f"{probe:8s}", *(tokenizer.id_to_token(int(i)) for i in near))

# %% [markdown]
# Positions have a table too: the $t$-th token of a text, the token in *column* $t$ of the batch,
# also gets row $t$ of this table, and the two vectors are added. The vectors of neighbouring
# columns should be alike. The picture of all dot products between position vectors shows how far a
# model can tell "near" from "far".

# %%
position = teacher.canonical()["embeddings.position.weight"].astype(np.float64)[:48]
alike = position @ position.T
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), width_ratios=(1, 1.5), dpi=75)
image = axes[0].imshow(alike)
axes[0].set(title="dot products of positions", xlabel="column", ylabel="column")
fig.colorbar(image)
axes[1].plot([np.diagonal(alike, distance).mean() for distance in range(40)], marker=".")
axes[1].set(xlabel="distance of two columns", title="mean over all pairs")
plt.show()

# %% [markdown]
# The mean falls within about four columns and then stays small.
#
# ## No padding inside
#
# Texts have different lengths, but an array has one. The batch that a user passes is padded; inside
# the model there are only *rows*, one for each real token, with the token's column as its position.

# %%
batch = tokenizer(["bad.", "a film with a heart of gold.", "i liked it."])
model = md.from_pretrained(folder)
rows = model.pack(batch["input_ids"], batch["attention_mask"])
print("batch", batch["input_ids"].shape, "=", batch["input_ids"].size, "cells")
print("rows ", len(rows.ids), " bounds", rows.bounds)
print("column of each row", rows.column)

fig, ax = plt.subplots(figsize=(7, 1.8))
grid = np.full(batch["input_ids"].shape, np.nan)
grid[rows.mask] = rows.sequence
ax.imshow(grid, aspect="auto", vmax=3.4)
for n, (b, t) in enumerate(zip(rows.sequence, rows.column, strict=True)):
    ax.text(t, b, n, ha="center", va="center", color="white" if b < 2 else "black")
ax.set(title="which row a cell becomes; white: padding, no row", xticks=[], ylabel="text",
       yticks=range(3))  # fmt: skip
plt.show()

# Whatever stands in the padding, no number of a real token changes:
noisy = np.where(batch["attention_mask"] == 1, batch["input_ids"], 99)
clean = model.forward(batch["input_ids"], batch["attention_mask"]).last_hidden_state
assert np.array_equal(model.forward(noisy, batch["attention_mask"]).last_hidden_state, clean)

# %% [markdown]
# ## Masking: [MASK], random, unchanged
#
# 15 % of the tokens are chosen. Of these 80 % become `[MASK]`, 10 % a random word, 10 % stay. Each
# of them has its original token as the label. Except for `[MASK]`, the model cannot see which
# tokens were chosen, so it has to check every one. All other labels are −100. In the example 40 %
# are chosen, because the text is short.

# %%
text = tokenizer(["this is one of the worst films i have ever seen , and i have seen many ."])
vocabulary = Vocabulary.of(tokenizer)
masked = mask_tokens(text, vocabulary=vocabulary, seed=1, step=0, masking=Masking(probability=0.4))
for before, after, label in zip(
    text["input_ids"][0], masked["input_ids"][0], masked["labels"][0], strict=True
):
    if label != -100:
        print(f"{tokenizer.id_to_token(int(before)):8s} -> "
              f"{tokenizer.id_to_token(int(after)):10s} asked for {int(label)}")  # fmt: skip

# %%
many = {name: np.repeat(array, lesson.size(3000, 300), axis=0) for name, array in text.items()}
masked = mask_tokens(many, vocabulary=vocabulary, seed=0, step=0)
drawable = ~np.isin(many["input_ids"], vocabulary.special_ids)
chosen = masked["labels"] != -100
hidden = chosen & (masked["input_ids"] == vocabulary.mask_id)
changed = chosen & ~hidden & (masked["input_ids"] != many["input_ids"])
print(f"chosen {chosen.sum() / drawable.sum():.1%} of the words; of those [MASK] "
      f"{hidden.sum() / chosen.sum():.1%}, random {changed.sum() / chosen.sum():.1%}")  # fmt: skip

# %% [markdown]
# **Rare words.** DistilBERT draws with weights $\max(\text{count},1)^{-0.7}$ instead, so that
# frequent tokens such as commas do not dominate. The probability to be chosen, by the frequency of
# a word (`smoothed` is DistilBERT's way):

# %%
counts = np.zeros(tokenizer.vocab_size, np.int64)
frequencies = np.unique(np.logspace(0, 5, 60).astype(int))
sample = 10 + np.arange(len(frequencies))
counts[sample] = frequencies
page = np.tile(rng.permutation(sample), (lesson.size(1000, 100), 1))
stream = {"input_ids": page, "attention_mask": np.ones_like(page)}
fig, ax = plt.subplots()
for strategy in ("uniform", "smoothed"):
    drawn = mask_tokens(
        stream, vocabulary=vocabulary, seed=0, step=0, counts=counts,
        masking=Masking(strategy=strategy),
    )  # fmt: skip
    share = [(drawn["labels"] == v).sum() / len(page) for v in sample]
    ax.semilogx(frequencies, share, label=strategy)
ax.set(xlabel="how often the word occurs in the corpus", ylabel="chance to be masked")
ax.legend()
plt.show()

# %% [markdown]
# The draws depend on (seed, step, number of the sequence) and on nothing else. A text is masked
# anew at each step (*dynamic* masking), and in the same way when a run is resumed.
#
# ## Exercise 1: WordPiece, the greedy split
#
# At each place take the longest piece that fits; after the first piece only pieces with `##` fit.
# If no piece fits at some place, the whole word is `["[UNK]"]`, and the pieces before that place
# are dropped.


# %%
def cut(word, pieces):
    """word a str, pieces a set such as {"un", "##able"}  ->  list of pieces, ["[UNK]"] if none."""


# %%
lesson.check("cut", cut)

# %% [markdown]
# ## Exercise 2: the embedding's backward, without `np.add.at`
#
# `np.add.at(dtable, ids, dy)` adds once for each id, also for repeated ones. Write the sum without
# this function. The section on the table has another way.


# %%
def embedding_backward(dy, ids, V):
    """dy (N,C), ids (N,), V rows  ->  dtable (V,C)."""


# %%
lesson.check("embedding_backward", embedding_backward)

# %% [markdown]
# ## Your own DistilBERT
#
# `embedding` and `embedding_backward`, where ids are $(B,T)$ or, for positions, $(T,)$. Here
# `np.add.at` may be used. The gradient has the shape of the table, also where no token reads a row.

# %%
lesson.check(7)

# %% [markdown]
# ## Summary
#
# * Text becomes pieces, pieces become rows of a table, and padding becomes nothing at all.
# * A row that several tokens share gets the sum of their gradients. `dtable[ids] += dy` keeps one
#   of them, so it is wrong for every text in which a token occurs twice.
# * 15 % of the tokens are chosen, and masked anew at each step.
#
# [← 6 the encoder and its mirror](06_encoder.ipynb) ·
# [8 the losses →](08_losses.ipynb)
