"""A decoder at work: one word at a time, each block remembering the keys and values of the last.

What a word's queries meet does not change once it is there: the words before it, and the text that
the encoder has read. So each block keeps the keys and values of the words so far, and computes
those of the encoder's output once; a step costs one row for each text.
"""

import numpy as np

from minidistil.model import encoder, heads
from minidistil.model.cross import Memory, keys_and_values
from minidistil.model.encoder import scope
from minidistil.model.rows import Rows


class Past:
    """Keys and values of the words so far, of one block: (R,t,C), all texts of one length."""

    def __init__(self, place):
        self.k = self.v = None
        self.place = place

    def select(self, parents):
        """Text r goes on as a copy of text parents[r]."""
        if self.k is not None:
            self.k, self.v = self.k[parents], self.v[parents]

    def join(self, k, v):
        """The newest word's k, v (R,C)  ->  those of all words, packed, and their bounds (R+1,)."""
        k, v = (self.place.fetch(x)[:, None] for x in (k, v))
        self.k = k if self.k is None else np.concatenate([self.k, k], axis=1)
        self.v = v if self.v is None else np.concatenate([self.v, v], axis=1)
        R, t, C = self.k.shape
        k, v = (self.place.send(x.reshape(-1, C)) for x in (self.k, self.v))
        return k, v, np.arange(R + 1) * t


class Decoder:
    """Texts that a decoder says about B sources; calling it is one `step` as in `search.py`.

    p: canonical parameters of the decoder; memory (M,C), whose sequences `bounds` (B+1,) divide.
    At first there is one text for each source; later a source may have any number, one after
    another.
    """

    def __init__(self, p, config, memory, bounds, ops):
        self.p, self.config, self.ops, self.bounds = p, config, ops, bounds
        self.a = config.architecture
        self.words = 0
        self.owner = np.arange(len(bounds) - 1)  # the source of each text
        self.blocks = []
        for i in range(self.a.L):
            block = scope(p, f"layer.{i}")
            known = keys_and_values(memory, block, ops)[:2]
            self.blocks.append((block, known, Past(ops.place)))

    def __call__(self, ids, parents):
        """ids (R,), parents (R,)  ->  logits (R,V)."""
        self.owner = self.owner[parents]
        R, a, ops = len(ids), self.a, self.ops
        column, each = np.full(R, self.words), np.arange(R + 1)
        rows = Rows(ids, np.zeros(R, np.int64), each[:-1], column, column, each, None)
        x, _ = encoder.embed(
            rows, scope(self.p, "embeddings"), a, self.config.pad_token_id, None, ops
        )
        texts = np.bincount(self.owner, minlength=len(self.bounds) - 1)
        queries = np.concatenate([[0], np.cumsum(texts)])  # a source's texts read it together
        for p, known, past in self.blocks:
            past.select(parents)
            memory = Memory(None, self.bounds, queries, known)
            x, _ = encoder.block(x, p, a, each, None, 0, ops, keep=False, memory=memory, past=past)
        self.words += 1
        features, _ = heads.mlm(x, self.p, a, ops)
        logits, _ = ops.linear.forward(features, *heads.projector(self.p))
        return ops.place.fetch(logits)
