"""Taps: quantities inside a block that a caller reads, or sends gradients into.

Most of them lie between two ops, where `tapped_block` takes them. Attention's scores and weights do
not leave its op, so they are computed here once more, from q and k of the layers that are tapped:

    scores   s = (q/√D)·kᵀ   (H,T,T)        probs   a = softmax(s)   (H,T,T), before dropout
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


def check_names(names: Collection[str], layers: int) -> None:
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


def squares(q, k, bounds, n_heads: int, name: str, causal: bool = False) -> list:
    """q, k (N,C)  ->  `scores` or `probs` of each sequence: a list of (H,T,T).

    causal: the score of a later token is the dtype's minimum, and its weight 0.
    """
    found = []
    for first, last in pairwise(bounds):
        s = _scores(*(split_heads(x[first:last], n_heads) for x in (q, k)), causal)
        found.append(s if name == "scores" else SPEC.softmax.forward(s)[0])
    return found


def scores_backward(dtaps: dict, attention: tuple, ops) -> tuple:
    """Gradients into `scores` and `probs` of one layer, the cache of its attention  ->  dq, dk
    (N,C), or None, None."""
    if not any(name in dtaps for name in SQUARE):
        return None, None
    q, k, _, _, pattern, n_heads, _ = attention
    q, k, bounds = map(ops.place.fetch, (q, k, pattern.bounds))
    dq, dk = np.zeros_like(q), np.zeros_like(k)
    for b, (first, last) in enumerate(pairwise(bounds)):
        qh, kh = (split_heads(x[first:last], n_heads) for x in (q, k))
        ds = 0
        if "probs" in dtaps:
            _, softmax = SPEC.softmax.forward(_scores(qh, kh, pattern.causal))
            ds = ds + SPEC.softmax.backward(dtaps["probs"][b], softmax)[0]
        if "scores" in dtaps:
            ds = ds + np.where(_later(last - first, pattern.causal), 0, dtaps["scores"][b])
        root = math.sqrt(qh.shape[2])
        dq[first:last] = merge_heads(ds @ kh / root)
        dk[first:last] = merge_heads(ds.swapaxes(1, 2) @ qh / root)
    return ops.place.send(dq), ops.place.send(dk)


def _scores(qh, kh, causal):
    """qh, kh (H,T,D)  ->  s (H,T,T)."""
    s = (qh / math.sqrt(qh.shape[2])) @ kh.swapaxes(1, 2)
    s[:, _later(s.shape[1], causal)] = np.finfo(s.dtype).min
    return s


def _later(T, causal):
    """(T,T) bool: the keys behind each query that a causal mask hides; none without one."""
    return ~np.tri(T, dtype=bool) if causal else np.zeros((T, T), bool)


def scatter_squares(parts: list, mask: np.ndarray) -> np.ndarray:
    """A list of (H,T,T)  ->  (B,H,T,T), zeros where either token is padding."""
    B, T = mask.shape
    out = np.zeros((B, len(parts[0]), T, T), parts[0].dtype)
    for b, part in enumerate(parts):
        columns = np.flatnonzero(mask[b])
        out[b][:, columns[:, None], columns] = part
    return out


def gather_squares(x: np.ndarray, mask: np.ndarray) -> list:
    """(B,H,T,T)  ->  a list of (H,T,T), each without its padding."""
    columns = [np.flatnonzero(row) for row in mask]
    return [x[b][:, c[:, None], c] for b, c in enumerate(columns)]
