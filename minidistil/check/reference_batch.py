"""The inputs of a comparison: the model of a folder, and a batch."""

import warnings

import numpy as np

from minidistil.check.record import leaves
from minidistil.data import load_tokenizer
from minidistil.model.pretrained import from_pretrained
from minidistil.model.sentence.sentence_model import SENTENCES

READ = ("input_ids", "attention_mask", "token_type_ids")  # the arrays that both sides take


def load(folder, task=None):
    """The model of a folder on the NumPy specification, float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about heads that the task does not use
        return from_pretrained(folder, task=task, backend="numpy", dtype="float32")


def as_stored(model, module):
    """The model, with its parameters rounded to the half precision of the module, if any."""
    import torch

    kinds = {t.dtype for t in leaves(module).values()}
    for half in (torch.float16, torch.bfloat16):
        if kinds == {half}:
            rounded = {
                n: torch.tensor(np.array(p)).to(half).float() for n, p in model.params.items()
            }
            model.update({n: p.numpy() for n, p in rounded.items()})
    return model


LONGEST = 24  # tokens of a random text
SPARE = 4  # positions that the first batch leaves free: a module that counts from 2 runs, too


def example(model, folder, texts=None, seed=0, room=0):
    """A padded batch (B,T) of texts or of random tokens, with both token types if there are two.
    For multiple choice (B,2,T), or one question (1,choices,T) whose choices are the texts.
    room: columns of padding behind the longest text."""
    if not texts:
        return _shaped(model, _random(model, seed), 2)
    return _shaped(model, _of_texts(model, folder, texts, room), len(texts))


def with_holes(model, seed=0):
    """A batch of random tokens, some of which are masked inside their text."""
    return _shaped(model, _random(model, seed, holes=True), 2)


def _shaped(model, batch, choices):
    """A batch (B,T), or (B,choices,T) for multiple choice."""
    T = batch["input_ids"].shape[1]
    shape = (-1, choices, T) if "choice" in model.heads else (-1, T)
    return {name: x.reshape(shape) for name, x in batch.items()}


def _of_texts(model, folder, texts, room):
    batch = load_tokenizer(folder)(list(texts))
    batch = {name: np.asarray(x) for name, x in batch.items()}
    room = min(room, model.config.architecture.longest - batch["input_ids"].shape[1])
    pads = {"input_ids": model.config.pad_token_id}
    return {
        n: np.pad(x, ((0, 0), (0, room)), constant_values=pads.get(n, 0)) for n, x in batch.items()
    }


def _random(model, seed, holes=False):
    """Four texts: of full length, shorter, of one token, and nearly full. Half of the words are
    among four; both token types. holes: some tokens inside the first two texts are masked."""
    a, rng = model.config.architecture, np.random.default_rng(seed)
    B, T = 4, min(LONGEST, a.longest if holes else max(2, a.longest - SPARE))
    lengths = np.array([T, max(2, T - 3), 1, max(1, T - 1)])
    mask = (np.arange(T) < lengths[:, None]).astype(np.int64)
    if holes and T > 4:
        mask[0, T // 2] = mask[1, 1] = mask[1, 3] = 0
    words = rng.integers(0, a.V, (B, T))
    ids = np.where(rng.random((B, T)) < 0.5, rng.choice(words.ravel(), 4)[words % 4], words)
    pad = model.config.pad_token_id
    ids[ids == pad] = (pad + 1) % a.V
    batch = {"input_ids": np.where(mask == 1, ids, pad), "attention_mask": mask}
    if holes:
        batch["input_ids"] = np.where(np.arange(T) < lengths[:, None], ids, pad)
    if a.types and model.task != SENTENCES:  # a sentence embedding reads one text, never a pair
        types = (np.arange(T) >= lengths[:, None] // 2).astype(np.int64)
        batch["token_type_ids"] = types * mask * (a.types > 1)
    return batch
