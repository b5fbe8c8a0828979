# %% [markdown]
# # 1 · A tour
#
# [← 0 why distil at all](00_why.ipynb) ·
# [2 what a backward is →](02_backward.ipynb) ·
# about 30 minutes
#
# The input is a sentence, the output is a masked word. This chapter shows every step once: tokens,
# vectors, attention, logits, the loss, a gradient for every parameter, and a student with its
# teacher. Each later chapter explains one of them, so a name that is new here is explained there.
#
# **Question:** a model reads *one of the worst [MASK] i have ever seen* and answers *movie*. Which
# numbers lead from the text to that word, and what does a training step change?
#
# Code: [`model/model.py`](../minidistil/model/model.py)

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
from minidistil.model.bundled_teacher import default_teacher

plt.style.use(lesson.STYLE)
folder = default_teacher()  # the small BERT that comes with the project; any other folder works

# %% [markdown]
# ## From a sentence to numbers
#
# The tokenizer splits a text into pieces of its vocabulary and returns their ids. `[CLS]` starts
# the text, `[SEP]` ends it, `[MASK]` is the word to predict. A piece that continues a word begins
# with `##`.

# %%
tokenizer = md.load_tokenizer(folder)
sentence = "this is one of the worst [MASK] i have ever seen."
batch = tokenizer([sentence])
tokens = [tokenizer.id_to_token(int(i)) for i in batch["input_ids"][0]]
for token, number in zip(tokens, batch["input_ids"][0], strict=True):
    print(f"{number:5d}  {token}")

# %% [markdown]
# ## From numbers to probabilities of the missing word
#
# The letters in brackets are the sizes of an array: $B$ sequences, $T$ tokens, $V$ words of the
# vocabulary, $C$ numbers for each token, the *channels*, and $H$ heads of attention (chapter 5).
# `forward` takes integer arrays $(B,T)$ and returns *logits* $(B,T,V)$: one number for each
# sequence, token and word of the vocabulary. On request it also returns its intermediate results:
# the *hidden states*, which are the vectors of the tokens before the first layer and after each
# layer, and the weights of attention. Softmax turns a row of logits into probabilities,
#
# $$p_v = \frac{e^{z_v}}{\sum_{w} e^{z_w}} .$$

# %%
teacher = md.from_pretrained(folder, task="fill-mask")
out = teacher.forward(**batch, hidden_states=True, attentions=True)
print("logits       ", out.logits.shape, " (B,T,V)")
print("hidden states", len(out.hidden_states), "of", out.hidden_states[0].shape, " (B,T,C)")
print("attentions   ", len(out.attentions), "of", out.attentions[0].shape, " (B,H,T,T)")

# %%
position = tokens.index("[MASK]")
z = out.logits[0, position].astype(np.float64)  # (V,)
p = np.exp(z - z.max())  # the shift cancels, and nothing overflows
p /= p.sum()
best = np.argsort(-p)[:8]

fig, ax = plt.subplots()
ax.barh([tokenizer.id_to_token(int(i)) for i in best][::-1], p[best][::-1], color="#006BA4")
ax.set(xlabel="probability", title=sentence)
plt.show()

# %% [markdown]
# The pipeline does the same in one line, with the answers of `transformers`' own pipeline:

# %%
predict = md.pipeline("fill-mask", folder)
for text in (sentence, "the [MASK] was brilliant.", "i fell [MASK] in the first ten minutes."):
    words = ", ".join(f"{a['token_str']} {a['score']:.0%}" for a in predict(text)[:4])
    print(f"{text:50s} {words}")

# %% [markdown]
# ## The parameters
#
# A model is a flat dictionary of arrays and pure functions of it. The arrays have the names that
# they have in the file of weights, the *checkpoint*. These are all parameters of this model, summed
# by purpose. An *embedding* is a table that gives each word its vector. Each layer has an attention
# (chapter 5) and a feed-forward part (chapter 3). The *head* turns the last vectors into logits.

# %%
sizes = {}
for name, array in teacher.params.items():
    part = "word embeddings" if "word_emb" in name else "other embeddings"
    if ".layer." in name:
        part = "attention" if "attention" in name else "feed-forward"
    elif "cls." in name:
        part = "head"
    sizes[part] = sizes.get(part, 0) + array.size

fig, ax = plt.subplots(figsize=(7, 2.2))
bars = ax.barh(list(sizes), list(sizes.values()), color="#5F9ED1")
ax.bar_label(bars, [f"{n:,}" for n in sizes.values()], padding=3)
ax.set(xlim=(0, 1.25 * max(sizes.values())), title=f"{sum(sizes.values()):,} parameters")
plt.show()

# %% [markdown]
# ## The loss, and a gradient for every parameter
#
# With a label, `forward` also returns the loss: the negative log-likelihood (NLL) of the right
# word, $-\ln p_{\text{right}}$. `backward` returns the derivative of the loss with respect to each
# parameter, under the parameter's name.

# %%
labels = np.full_like(batch["input_ids"], -100)  # -100: no label
labels[0, position] = tokenizer.token_to_id("movies")
out = teacher.forward(**batch, labels=labels)
grads = teacher.backward(out)
print(f"loss {out.loss:.4f}, the word's probability {np.exp(-out.loss):.4f}")

largest = sorted(grads, key=lambda name: -md.testing.rms(grads[name]))[:5]
for name in largest:
    print(f"{md.testing.rms(grads[name]):.1e}  {grads[name].shape!s:12s} {name}")

# %% [markdown]
# One step against the gradient increases the probability of the right word. Training repeats this.

# %%
probabilities = []
for rate in (0.0, 0.0003, 0.001, 0.003):
    moved = md.from_pretrained(folder, task="fill-mask")
    moved.update({name: moved.params[name] - rate * grads[name] for name in grads})
    probabilities.append(np.exp(-moved.forward(**batch, labels=labels).loss))
    print(f"step of {rate:6.4f}: probability of 'movies' {probabilities[-1]:.4f}")
assert probabilities == sorted(probabilities)

# %% [markdown]
# ## A student and its teacher
#
# A DistilBERT with half of the layers starts from a copy of every other layer of its teacher. It
# has three losses (chapter 8). *Soft targets* compares its probabilities with the teacher's,
# *masked word* is the NLL of the label, and *direction* compares the last hidden states of the two.
# The same `backward` gives the gradient of their weighted sum (chapter 9 trains it).

# %%
student = md.student_from(teacher, layers=(0, 2))
step = md.distill_step(student, teacher, {**batch, "labels": labels}, md.DistillConfig())
count = {name: sum(a.size for a in m.params.values()) for name, m in
         (("teacher", teacher), ("student", student))}  # fmt: skip
print(count)
print("soft targets {ce:.3f}, masked word {mlm:.3f}, direction {cos:.3f}".format(**step.parts))
print(f"5·ce + 2·mlm + 1·cos = {step.loss:.3f}, {len(step.grads)} gradients")

# %% [markdown]
# ## The numbers beside PyTorch's
#
# Everything above is NumPy and Numba. Where PyTorch and `transformers` are installed
# (`pip install minidistil[check]`), the same folder gives the same logits. How close should they
# be? The measure is the rounding error of float32: both are compared with a float64 result.

# %%
if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about progress bars
        import torch
        from transformers import BertForMaskedLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    theirs = BertForMaskedLM.from_pretrained(folder).float().eval()  # stored in half precision
    with torch.no_grad():
        their_logits = theirs(**{k: torch.tensor(v) for k, v in batch.items()}).logits.numpy()
    exact = md.from_pretrained(folder, task="fill-mask", backend="numpy", dtype="float64")
    exact_logits = exact.forward(**batch).logits
    error, allowed = md.testing.compare("logits", out.logits, their_logits, exact_logits)
    print(f"logits of size {md.testing.rms(exact_logits):.2f}")
    print(f"minidistil is {error:.1e} from float64, it may be {allowed:.1e}")
    print(f"PyTorch is    {md.testing.rms(their_logits - exact_logits):.1e} from float64")
else:
    print("PyTorch is not installed here; the tests compare with stored numbers of it instead")

# %% [markdown]
# ## Exercise 1: negative log-likelihood
#
# Write `nll(z, word)`: a row of logits $z$ $(V,)$ and the id of a word go in,
# $-\ln p_{\text{word}}$ comes out. Logits may be as large as 1000, where $e^{z}$ overflows, and
# 1000 apart, where a probability becomes 0.
#
# `lesson.check` says whether it is right, and names known mistakes. `lesson.hint("nll")` gives a
# hint, `lesson.solution("nll")` the solution; so it is in all chapters.


# %%
def nll(z, word):
    """z (V,), word an integer  ->  −ln softmax(z)[word], a float."""


# %%
lesson.check("nll", nll)

# %% [markdown]
# ## Exercise 2: does the prediction depend on the neighbouring words?
#
# Nothing to write and no check: change `sentence` so that the masked word's left neighbour is
# another word (*the best [MASK]*, *a funny [MASK]*). Run the notebook again, and see which of the
# eight words in the first picture stay.

# %% [markdown]
# ## Your own DistilBERT
#
# Chapters 1 to 9 each fill in some functions of a file of your own, `my_distilbert.py`, beside this
# notebook. It is the algorithm on one page; in chapter 9 it distils, and its loss and every
# gradient are the library's. `lesson.start()` writes the file with its blanks, and leaves one that
# is there as it is.
#
# The first function is `log_softmax(z)`, $\ln\mathrm{softmax}$ of each row: exercise 1 for all
# words at once. Write it in the file, save, and run the second cell. `lesson.fill(1)` writes the
# solutions of chapter 1 into the blanks, so any chapter can be left out.

# %%
lesson.start()

# %%
lesson.check(1)

# %% [markdown]
# ## Summary
#
# * The tokenizer gives ids, the embeddings vectors, each block mixes and transforms them, and the
#   head turns the vector at `[MASK]` into a logit for each word; softmax makes probabilities.
# * The loss is the NLL of the right word, and `backward` gives its derivative with respect to each
#   parameter. A step against the gradient makes the word more probable.
# * A student is a copy of some of its teacher's layers, with a loss of three parts.
#
# [← 0 why distil at all](00_why.ipynb) ·
# [2 what a backward is →](02_backward.ipynb)
