"""The batch of a comparison of an encoder–decoder: sources (B,T) and targets (B,U), T ≠ U."""

import numpy as np

from minidistil.check.families.module_call import roles_taken
from minidistil.data import load_tokenizer
from minidistil.model.seq2seq.seq2seq_model import shift_right
from minidistil.model.task_loss import IGNORED

TYPES = "token_type_ids"


def pair_batch(model, folder, texts=None, seed=0, module=None):
    """A batch for a module, of pairs (source, target) of texts or of random tokens.

    A module that takes decoder_input_ids is given the labels shifted to the right; one that takes
    labels alone shifts them itself.
    """
    source, labels = _of_texts(model, folder, texts) if texts else _random(model, seed)
    taken = set(roles_taken(module).values()) if module is not None else set()
    c = model.config
    ids = shift_right(labels, c.pad_token_id, c.decoder_start_token_id)
    batch = {n: x for n, x in source.items() if module is None or n != TYPES or n in taken}
    if module is None or "decoder_input_ids" in taken or "labels" not in taken:
        batch["decoder_input_ids"] = ids
    if module is None or "decoder_attention_mask" in taken:
        batch["decoder_attention_mask"] = (ids != c.pad_token_id).astype(np.int64)
    if module is not None and "labels" in taken:
        batch["labels"] = labels
    return batch


def _of_texts(model, folder, texts):
    """Texts alone get themselves as targets."""
    tokenizer, pairs = load_tokenizer(folder), [(x, x) if isinstance(x, str) else x for x in texts]
    source, target = (tokenizer([pair[i] for pair in pairs]) for i in (0, 1))
    source = {name: np.asarray(x, np.int64) for name, x in source.items()}
    if not model.config.encoder.architecture.types:
        source.pop("token_type_ids", None)
    # [CLS] is the decoder's first input, and no label.
    labels = np.where(target["attention_mask"] == 1, target["input_ids"], IGNORED)[:, 1:]
    if labels.shape[1] == source["input_ids"].shape[1]:
        labels = np.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)
    return source, labels.astype(np.int64)


def _random(model, seed):
    c, rng = model.config, np.random.default_rng(seed)
    T, U = min(11, c.encoder.architecture.longest), min(8, c.decoder.architecture.longest)
    U -= T == U
    mask = (np.arange(T) < np.array([[T], [max(2, T - 3)], [1], [max(1, T - 1)]])).astype(np.int64)
    mask[3, T // 3] = T < 3  # a hole behind the first token
    ids = _tokens(rng, mask.shape, c.encoder.architecture.V, c.encoder.pad_token_id)
    ids[:, T // 2] = ids[:, 0]  # an id that repeats
    source = {"input_ids": np.where(mask == 1, ids, c.encoder.pad_token_id), "attention_mask": mask}
    if c.encoder.architecture.types > 1:
        source["token_type_ids"] = (np.arange(T) >= T // 2) * mask
    wanted = np.arange(U) < np.array([[U], [max(1, U - 2)], [max(1, U // 2)], [1]])
    labels = _tokens(rng, wanted.shape, c.decoder.vocab_size, c.pad_token_id)
    return source, np.where(wanted, labels, IGNORED)


def _tokens(rng, shape, V, pad):
    ids = rng.integers(0, V, shape)
    return np.where(ids == pad, (pad + 1) % V, ids)
