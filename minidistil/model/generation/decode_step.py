"""The decoding steps of an encoder–decoder: one new token of every text, with a KV cache."""

from collections.abc import Callable

import numpy as np

from minidistil.model import encoder, heads
from minidistil.model.context import Context
from minidistil.model.encoder import Params, scope
from minidistil.model.finite import not_finite
from minidistil.model.generation.cached_block import KnownMemory, reading_block
from minidistil.model.generation.kv_cache import KVCache
from minidistil.model.rows import Rows
from minidistil.model.seq2seq.cross_attention import keys_and_values


def checked(model, make: Callable) -> Callable:
    """The decoder make(model), a function (ids, parents) -> logits, whose logits are all finite.

    make: a model with the same parameters -> its decoder. Raises NotFiniteError.
    """
    steps = []

    def repeated(other):
        with np.errstate(all="ignore"):
            step = make(other)
            for ids, parents in steps:
                logits = step(ids, parents)
        return logits

    with np.errstate(all="ignore"):
        step = make(model)

    def checked_step(ids, parents):
        steps.append((ids, parents))
        with np.errstate(all="ignore"):  # the next line looks for what is not finite
            logits = step(ids, parents)
        if not np.isfinite(logits).all():
            raise not_finite(model, repeated)
        return logits

    return checked_step


class Decoder:
    """Decodes texts for B sources; a call is one `step` of `token_search`.

    p: canonical parameters of the decoder; memory (M,C): the encoder's output, of which source b
    has rows bounds[b] to bounds[b+1]. A source begins with one text and may have any number later;
    its texts are adjacent.
    """

    def __init__(self, p: Params, config, memory, bounds: np.ndarray, ops):
        self.p, self.config, self.ops, self.bounds = p, config, ops, bounds
        self.source = np.arange(len(bounds) - 1)  # of each text
        self.kv_cache = KVCache(len(self.source), ops.place)
        self.blocks = []
        for i in range(config.architecture.L):
            block = scope(p, f"layer.{i}")
            self.blocks.append((block, keys_and_values(memory, block, ops)[:2]))

    def __call__(self, ids: np.ndarray, parents: np.ndarray) -> np.ndarray:
        """ids (R,), parents (R,)  ->  logits (R,V)."""
        self.source = self.source[parents]
        self.kv_cache.keep(parents)
        R, position = len(ids), self.kv_cache.lengths
        bounds = np.arange(R + 1)  # one new row for each text
        rows = Rows(ids, np.zeros(R, np.int64), bounds[:-1], position, position, bounds, None)
        context = Context(self.config.architecture, bounds, self.ops, keep=False)
        texts = np.bincount(self.source, minlength=len(self.bounds) - 1)
        queries = np.concatenate([[0], np.cumsum(texts)])  # all texts of a source attend to it
        embeddings = scope(self.p, "embeddings")
        x, _ = encoder.embed(rows, embeddings, self.config.pad_token_id, context)
        for i, (p, (k, v)) in enumerate(self.blocks):
            memory = KnownMemory(k, v, self.bounds, queries)
            x = reading_block(x, p, context, self.kv_cache.layer(i), memory)
        self.kv_cache.grow(bounds)
        _, logits, _ = heads.vocabulary_head(x, self.p, "mlm", context)
        return self.ops.place.fetch(logits)
