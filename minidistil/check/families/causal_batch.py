"""The batch of a comparison of GPT-2."""

import numpy as np

from minidistil.check.families.module_call import roles_taken
from minidistil.data import load_tokenizer
from minidistil.model.task_loss import IGNORED


def causal_batch(model, folder, texts=None, seed=0, module=None):
    """A batch (B,T) for a module, of texts or of random tokens.

    Random tokens have padding and a hole in the mask only where the module takes a mask. Labels
    are given where it takes them: an argument called labels gets one for each token, and the module
    shifts them; one called targets gets those of the next tokens.
    """
    taken = set(roles_taken(module).values()) if module is not None else set()
    masked = module is None or bool({"attention_mask", "padding_mask"} & taken)
    batch = _of_texts(folder, texts) if texts else _random(model, seed, masked)
    if "attention_mask" not in batch or not masked:
        batch["attention_mask"] = np.ones_like(batch["input_ids"])
    mask, rng = batch["attention_mask"] == 1, np.random.default_rng(seed + 1)
    if "labels" in taken:
        batch["labels"] = labels = np.where(mask, batch["input_ids"], IGNORED)
        for behind in (1, 2):  # padding predicts no token, nor the one after the next
            labels[:, behind:][~mask[:, :-behind]] = IGNORED
    elif "targets" in taken:
        batch["targets"] = rng.integers(0, model.config.vocab_size, mask.shape)
    return batch


def _of_texts(folder, texts):
    batch = load_tokenizer(folder)(list(texts))
    return {name: np.asarray(x, np.int64) for name, x in batch.items()}


def _random(model, seed, masked):
    a, rng = model.config.architecture, np.random.default_rng(seed)
    T = min(11, a.longest)
    ids = rng.integers(0, a.V, (4, T))
    ids[:, T // 2] = ids[:, 0]  # an id that repeats
    mask = np.ones((4, T), np.int64)
    if masked:
        lengths = np.array([T, max(2, T - 3), 1, max(1, T - 1)])
        mask = (np.arange(T) < lengths[:, None]).astype(np.int64)
        mask[3, T // 3] = T < 3  # a hole behind the first token
        ids[mask == 0] = model.config.pad_token_id or 0
    return {"input_ids": ids, "attention_mask": mask}
