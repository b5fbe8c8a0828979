# %% [markdown]
# # 1 · A tour
#
# The input is a sentence, the output is a masked word. This chapter shows every step once: tokens,
# vectors, attention, logits, the loss, a gradient for every parameter, and a student with its
# teacher. Each later chapter covers one of them.
#
# Read beside `README.md` and `minidistil/model/model.py`.

# %%
# Installs missing packages. In Colab, SOURCE says where the project lies:
# "minidistil[demo] @ git+https://…", or the name of the zip that you uploaded.
import importlib.util
import subprocess
import sys

SOURCE = "..[demo]"
if not all(importlib.util.find_spec(name) for name in ("minidistil", "matplotlib")):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)
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
# `forward` takes integer arrays $(B,T)$ and returns *logits* $(B,T,V)$: one number for each
# sequence, token and word of the vocabulary. Softmax turns a row of logits into probabilities,
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
# A model is a flat dictionary of arrays under the checkpoint's names, and pure functions of it.
# These are all parameters of this model, summed by purpose.

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
# A DistilBERT with half of the layers starts from a copy of every other layer of its teacher. The
# three losses of distillation measure how far it is from the teacher (chapter 8), and the same
# `backward` gives the gradient of their sum (chapter 9 trains it).

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
# $-\ln p_{\text{word}}$ comes out. Logits may be as large as 1000, where $e^{z}$ overflows.


# %%
def nll(z, word):
    """z (V,), word an integer  ->  −ln softmax(z)[word], a float."""


# %%
from minidistil import losses
from minidistil.lesson import check


def right_nll(z, word):
    return losses.cross_entropy(z[None], np.array([word]))[0]


check(
    nll, right_nll, np.array([1000.0, 1001.0, 990.0]), 0,
    mistakes={
        "this is ln p, without the minus sign": lambda z, w: -right_nll(z, w),
        "this is p itself, its logarithm is missing": lambda z, w: np.exp(-right_nll(z, w)),
        "e^1000 overflows: subtract the largest logit first": lambda z, w: -np.log(
            np.exp(z[w]) / np.exp(z).sum()
        ),
        "the logits are not normalised: their ln Σ is missing": lambda z, w: z.max() - z[w],
    },
)  # fmt: skip

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def nll(z, word):
#     z = z - z.max()
#     return np.log(np.exp(z).sum()) - z[word]
# ```
#
# </details>
#
# ## Exercise 2: does the prediction depend on the neighbouring words?
#
# Without code: change `sentence` so that the masked word's left neighbour is another word (`the
# best [MASK]`, `a funny [MASK]`), run the notebook again, and see which of the eight words stay.
