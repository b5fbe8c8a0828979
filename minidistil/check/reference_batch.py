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


def example(model, folder, texts=None, seed=0, room=0):
    """A padded batch (B,T) of texts or of random tokens, with both token types if there are two.
    For multiple choice (B,2,T), or one question (1,choices,T) whose choices are the texts.
    room: columns of padding behind the longest text."""
    choices = "choice" in model.heads
    if texts:
        batch = _of_texts(model, folder, texts, room)
        shape = (1, len(texts), -1) if choices else (len(texts), -1)
    else:
        batch = _random(model, 4 if choices else 3, seed)
        shape = (2, 2, -1) if choices else (3, -1)
    return {name: x.reshape(shape) for name, x in batch.items()}


def _of_texts(model, folder, texts, room):
    batch = load_tokenizer(folder)(list(texts))
    batch = {name: np.asarray(x) for name, x in batch.items()}
    room = min(room, model.config.architecture.longest - batch["input_ids"].shape[1])
    pads = {"input_ids": model.config.pad_token_id}
    return {
        n: np.pad(x, ((0, 0), (0, room)), constant_values=pads.get(n, 0)) for n, x in batch.items()
    }


def _random(model, B, seed):
    a, rng = model.config.architecture, np.random.default_rng(seed)
    T = min(11, a.longest)
    lengths = np.array([T, max(2, T - 3), max(1, T // 2), max(1, T - 1)])[:B]
    mask = (np.arange(T) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(0, a.V, (B, T))
    ids[ids == model.config.pad_token_id] = (model.config.pad_token_id + 1) % a.V
    batch = {
        "input_ids": np.where(mask == 1, ids, model.config.pad_token_id),
        "attention_mask": mask,
    }
    if a.types and model.task != SENTENCES:  # a sentence embedding reads one text, never a pair
        types = (np.arange(T) >= lengths[:, None] // 2).astype(np.int64)
        batch["token_type_ids"] = types * mask * (a.types > 1)
    return batch
