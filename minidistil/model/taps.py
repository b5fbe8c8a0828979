"""Taps: quantities inside a block that a caller wants to see, or to send gradients into.

Most lie at hand between two ops. Scores and weights do not: attention keeps them to itself, so
they are computed again here, unfused, for the layers that ask.

    scores   s = (q/√D)·kᵀ  (H,t,t)        probs   a = softmax(s)  (H,t,t), before dropout
"""

import math
from collections.abc import Collection
from itertools import pairwise

import numpy as np

from minidistil.io.limits import short
from minidistil.ops import backend
from minidistil.ops.kernels.head_views import merge_heads, split_heads

SPEC = backend("numpy")
PLAIN = (
    "q", "k", "v", "context", "out", "attention_sum", "attention_norm", "lin1", "activation",
    "lin2", "output_sum", "output",
)  # fmt: skip
WIDE = ("lin1", "activation")  # (B,T,F)
SQUARE = ("scores", "probs")  # (B,H,T,T) where the others are (B,T,·)


def check_names(names, layers):
    """Raises ValueError for a tap that no layer has."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ValueError(f"taps are a list of names, not {short(names)}")
    for name in map(str, names):
        head, _, tail = name.rpartition(".")
        if head not in [f"layer.{i}" for i in range(layers)] or tail not in PLAIN + SQUARE:
            raise ValueError(
                f"no tap {name!r}: taps are layer.0 to layer.{layers - 1} followed by one of "
                f"{', '.join(PLAIN + SQUARE)}"
            )


def squares(q, k, bounds, n_heads, name, causal=False):
    """q, k (N,C)  ->  scores or probs of each sequence: a list of (H,t,t).

    causal: a later token's score is the dtype's minimum, and its weight 0.
    """
    out = []
    for first, last in pairwise(bounds):
        qh, kh = split_heads(q[first:last], n_heads), split_heads(k[first:last], n_heads)
        s = (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)  # (H,t,t)
        if causal:
            s[:, ~np.tri(len(s[0]), dtype=bool)] = np.finfo(s.dtype).min
        out.append(s if name == "scores" else _softmax(s))
    return out


def _softmax(s):
    return SPEC.softmax.forward(s.reshape(-1, s.shape[2]))[0].reshape(s.shape)


def scores_backward(dtaps, attention, ops):
    """Gradients into `scores` and `probs` of one layer  ->  dq, dk (N,C), or None, None."""
    if not any(name in dtaps for name in SQUARE):
        return None, None
    q, k, _, _, meeting, n_heads, _ = attention
    q, k, bounds = map(ops.place.fetch, (q, k, meeting.bounds))
    dq, dk = np.zeros_like(q), np.zeros_like(k)
    for b, (first, last) in enumerate(pairwise(bounds)):
        hidden = ~np.tri(last - first, dtype=bool) & meeting.causal
        qh, kh = split_heads(q[first:last], n_heads), split_heads(k[first:last], n_heads)
        root = math.sqrt(qh.shape[2])
        ds = 0
        if "probs" in dtaps:
            s = (qh / root) @ kh.swapaxes(1, 2)  # (H,t,t)
            s[:, hidden] = -np.inf
            a = _softmax(s)
            flat = dtaps["probs"][b].reshape(-1, a.shape[2])
            ds = ds + SPEC.softmax.backward(flat, a.reshape(flat.shape))[0].reshape(a.shape)
        if "scores" in dtaps:
            ds = ds + np.where(hidden, 0, dtaps["scores"][b])
        dq[first:last] = merge_heads(ds @ kh / root)
        dk[first:last] = merge_heads(ds.swapaxes(1, 2) @ qh / root)
    return ops.place.send(dq), ops.place.send(dk)


def scatter_squares(parts, mask):
    """A list of (H,t,t)  ->  (B,H,T,T), zeros where either token is padding."""
    B, T = mask.shape
    out = np.zeros((B, len(parts[0]), T, T), parts[0].dtype)
    for b, part in enumerate(parts):
        columns = np.flatnonzero(mask[b])
        out[b][:, columns[:, None], columns] = part
    return out


def gather_squares(x, mask):
    """(B,H,T,T)  ->  a list of (H,t,t)."""
    columns = [np.flatnonzero(row) for row in mask]
    return [x[b][:, c[:, None], c] for b, c in enumerate(columns)]
