"""A decoder at work: one word at a time, each block remembering the keys and values of the last.

What a word's queries meet does not change once it is there: the words before it, and the text that
the encoder has read. So each block keeps the keys and values of the words so far, and computes
those of the encoder's output once; a step costs one row for each text.
"""

import numpy as np

from minidistil.model import encoder, heads
from minidistil.model.encoder import scope
from minidistil.model.finite import not_finite
from minidistil.model.generation.kv_cache import KVCache
from minidistil.model.rows import Rows
from minidistil.model.seq2seq.cross_attention import Memory, keys_and_values


def checked(model, make):
    """The decoder make(model), a function of ids and parents, whose logits are all finite.

    make: another model with the same parameters  ->  its decoder. Raises NotFiniteError.
    """
    asked = []

    def again(other):
        with np.errstate(all="ignore"):
            step = make(other)
            for ids, parents in asked:
                logits = step(ids, parents)
        return logits

    with np.errstate(all="ignore"):
        step = make(model)

    def words(ids, parents):
        asked.append((ids, parents))
        with np.errstate(all="ignore"):  # what is not finite is looked for just below
            logits = step(ids, parents)
        if not np.isfinite(logits).all():
            raise not_finite(model, again)
        return logits

    return words


class Decoder:
    """Texts that a decoder writes for B sources; calling it is one `step` as in `search.py`.

    p: canonical parameters of the decoder; memory (M,C), whose sequences `bounds` (B+1,) divide.
    At first there is one text for each source; later a source may have any number, one after
    another.
    """

    def __init__(self, p, config, memory, bounds, ops):
        self.p, self.config, self.ops, self.bounds = p, config, ops, bounds
        self.a = config.architecture
        self.owner = np.arange(len(bounds) - 1)  # the source of each text
        self.kv_cache = KVCache(len(self.owner), ops.place)
        self.blocks = []
        for i in range(self.a.L):
            block = scope(p, f"layer.{i}")
            self.blocks.append((block, keys_and_values(memory, block, ops)[:2]))

    def __call__(self, ids, parents):
        """ids (R,), parents (R,)  ->  logits (R,V)."""
        self.owner = self.owner[parents]
        self.kv_cache.keep(parents)
        R, a, ops = len(ids), self.a, self.ops
        place, each = self.kv_cache.lengths, np.arange(R + 1)
        rows = Rows(ids, np.zeros(R, np.int64), each[:-1], place, place, each, None)
        x, _ = encoder.embed(
            rows, scope(self.p, "embeddings"), a, self.config.pad_token_id, None, ops
        )
        texts = np.bincount(self.owner, minlength=len(self.bounds) - 1)
        queries = np.concatenate([[0], np.cumsum(texts)])  # a source's texts read it together
        for i, (p, known) in enumerate(self.blocks):
            memory, kv_cache = Memory(None, self.bounds, queries, known), self.kv_cache.layer(i)
            x, _ = encoder.block(
                x, p, a, each, None, 0, ops, keep=False, memory=memory, kv_cache=kv_cache
            )
        self.kv_cache.grow(each)
        features, _ = heads.mlm(x, self.p, a, ops)
        logits, _ = ops.linear.forward(features, *heads.lm_head(self.p))
        return ops.place.fetch(logits)
