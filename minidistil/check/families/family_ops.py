"""Reference ops of GPT-2, ViT, DeiT and encoder–decoders on padded arrays, each replaceable by a
faulty variant; the others are those of `check/reference_ops.py`.
"""

import numpy as np

from minidistil.check.reference_ops import softmax, weights
from minidistil.losses import cross_entropy


def pre_norm_block(x, attend, attention_norm, feed, ffn_norm, residual):
    """A pre-norm block: LayerNorm, then the sublayer, then the residual sum.  x, y (B,T,C)."""
    u = residual(x, attend(attention_norm(x)), "attention_sum")
    return residual(u, feed(ffn_norm(u)), "output")


def last_norm(x, norm):
    """The hidden states of the last block (B,T,C)  ->  the final LayerNorm's output (B,T,C)."""
    return norm(x)


def places(look_up, *, mask):
    """look_up(position (T,) or (B,T)) -> embeddings; the position of a token is its column."""
    return look_up(np.arange(mask.shape[1]))


def causal_weights(s, mask):
    """Scores (B,H,T,T), mask (B,T)  ->  weights over the real keys up to the query's own column."""
    seen = np.tri(s.shape[2], dtype=bool) & mask[:, None, None, :]
    seen = seen | np.eye(s.shape[2], dtype=bool)  # padding attends to itself
    return softmax(np.where(seen, s, -np.inf))


def next_token_loss(logits, labels):
    """Logits (B,T,V), labels (B,T), −100 for none  ->  the mean over the columns t that column
    t + 1 has a label of −ln softmax(logits[t])[labels[t + 1]]."""
    return cross_entropy(logits[:, :-1], labels[:, 1:])[0]


def token_loss(logits, targets):
    """Logits (B,T,V), targets (B,T): those of each column's next token  ->  mean cross-entropy."""
    return cross_entropy(logits, targets)[0]


def cross_block(x, attend, cross, feed, norms, residual):
    """A decoder's post-norm block: self-attention, cross attention, feed-forward, and the three
    LayerNorms behind them.  x, y (B,U,C)."""
    attention_norm, cross_norm, output_norm = norms
    u = attention_norm(residual(x, attend(x), "attention_sum"))
    w = cross_norm(residual(u, cross(u), "cross_sum"))
    return output_norm(residual(w, feed(w), "output_sum"))


def cross_source(u, memory, mask, *, encoder, target_mask):
    """Decoder states u (B,U,C), the encoder's output (B,T,C), its mask (B,T)  ->  what keys and
    values are computed from, and its mask.  encoder: all hidden states of the encoder."""
    return memory, mask


def cross_weights(s, mask):
    """Scores (B,H,U,T), mask (B,T) of the source  ->  weights over the source's real tokens."""
    return weights(s, mask)


def decoder_ids(ids, labels, *, pad, start, end):
    """decoder_input_ids (B,U): `start`, then all labels but the last.  labels (B,U) or None."""
    return ids


FAMILY_OPS = {
    f.__name__: f
    for f in (pre_norm_block, last_norm, places, causal_weights, next_token_loss, token_loss,
              cross_block, cross_source, cross_weights, decoder_ids)
}  # fmt: skip
