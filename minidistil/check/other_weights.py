"""Attention weights that are not the right ones: other keys, a bias of the scores, another
temperature, rows that do not sum to 1.

s (B,H,T_q,T_k) are the right scores, p the weights of an implementation.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from minidistil.check.reference_ops import softmax
from minidistil.check.relations import Relation
from minidistil.testing import rms

SEEN = 1e-12  # weights above it


def other_weights(frame, p, right, s, tolerance) -> Relation | None:
    """The relation of weights p to the right ones, all (B,H,T_q,T_k)."""
    square = np.broadcast_to(frame.square_of(right.shape), right.shape)
    queries = square.any(axis=-1, keepdims=True)
    allowed = right > SEEN
    for search in (_keys, _more_keys, _biased, _temperature):
        found = search(p, s, allowed & queries, queries, tolerance)
        if found is not None:
            return found
    return None


def _error(p, candidate, queries):
    real = np.broadcast_to(queries, p.shape)
    off = np.abs(np.where(real, p - candidate, 0)).max()
    return float(off / max(rms(p[real]), 1e-30)) if np.isfinite(off) else float("inf")


def _softmax(s, seen):
    return softmax(np.where(seen, s, -np.inf))


# ------------------------------------------------------- other keys


def _keys(p, s, allowed, queries, tolerance):
    """A softmax over other keys than the right ones."""
    seen = (p > SEEN) & queries
    if np.array_equal(seen, allowed) or not (seen.any(-1) | ~queries[..., 0]).all():
        return None
    error = _error(p, _softmax(s, seen), queries)
    if error > tolerance:
        return None
    gone, more = allowed & ~seen, seen & ~allowed
    for says, pattern in key_patterns(allowed).items():
        if np.array_equal(pattern & queries, seen):
            return Relation("other-keys", f"over {says}", f"softmax over {says}", error)
    parts = [f"without {_named(gone, allowed)}"] if gone.any() else []
    parts += [f"with {_added(more)}"] if more.any() else []
    id = "other-keys" if more.any() else "keys-left-out"
    return Relation(
        id, "over other keys: " + ", ".join(parts), "softmax " + ", ".join(parts), error
    )


def key_patterns(allowed: np.ndarray) -> Mapping[str, np.ndarray]:
    """{description: the keys (B,H,T_q,T_k) that a wrong mask leaves}, from the right ones."""
    B, H, T_q, T_k = allowed.shape
    back = np.arange(T_q)[:, None] - np.arange(T_k)[None, :]  # how far before the query
    found = {}
    if T_q == T_k:
        found["the keys up to the query (a causal mask)"] = allowed & (back >= 0)
        for w in range(1, T_q - 1):
            found[f"the keys at most {w} before or behind the query"] = allowed & (abs(back) <= w)
            found[f"the keys at most {w} before the query"] = allowed & (back <= w)
            found[f"the keys at most {w} before it, none behind"] = (
                allowed & (back <= w) & (back >= 0)
            )
        found["all keys but the query's own"] = allowed & (back != 0)
    numbers = np.arange(B * H).reshape(B, H)
    texts = {"text (b·H + h) mod B (repeat in place of repeat_interleave)": numbers % B,
             "text B − 1 − b": np.broadcast_to(B - 1 - np.arange(B)[:, None], (B, H))}  # fmt: skip
    texts |= {f"text b {s:+d}": np.broadcast_to((np.arange(B)[:, None] + s) % B, (B, H))
              for s in (1, -1)}  # fmt: skip
    of_text = allowed.any(axis=(1, 2))  # (B,T_k): the keys of each text
    causal = np.array([allowed[..., k][..., :k].any() for k in range(1, T_k)]).any()
    causal = True if causal or T_q != T_k else back >= 0
    for says, number in texts.items():
        found[f"the keys of the mask of {says}"] = of_text[number][:, :, None, :] & causal
    return found


def _named(gone, allowed):
    """What is left out, in words."""
    T_q, T_k = gone.shape[2:]
    query, key = np.arange(T_q)[:, None], np.arange(T_k)[None, :]
    last = np.where(allowed, key, -1).max(axis=(1, 2, 3))[:, None, None, None]
    patterns = {
        "the token itself": query == key, "later tokens": key > query,
        "later tokens and the token itself": key >= query, "earlier tokens": key < query,
        "earlier tokens and the token itself": key <= query, "the first token": key == 0,
        "the last token of each text": key == last,
    }  # fmt: skip
    for name, pattern in patterns.items():
        if np.array_equal(gone, np.broadcast_to(pattern, gone.shape) & allowed):
            return name
    return "some keys"


def _added(more):
    """What is seen in addition, in words."""
    T_q, T_k = more.shape[2:]
    later = np.arange(T_k)[None, :] > np.arange(T_q)[:, None]
    if T_q == T_k and not (more & ~later).any():
        return "later tokens"
    return "padding or other hidden keys"


def contexts(allowed: np.ndarray, s: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(description, weights) of softmaxes over other keys: what a fused kernel may compute."""
    for says, seen in key_patterns(allowed).items():
        if seen.any(axis=-1).sum() == allowed.any(axis=-1).sum():
            yield says, _softmax(s, seen)


# ------------------------------------------------------- other scores


def _more_keys(p, s, allowed, queries, tolerance):
    """Rows that do not sum to 1."""
    right = _softmax(s, allowed)
    share = np.where(allowed, p, 0).sum(axis=-1, keepdims=True)
    error = _error(p, share * right, queries)
    if error > tolerance or np.allclose(share[queries], 1, atol=1e-9):
        return None
    total = np.exp(np.where(allowed, s, -np.inf)).sum(axis=-1, keepdims=True)  # Σ eˢ
    top = np.exp(np.where(allowed, s, -np.inf).max(axis=-1, keepdims=True))
    for says, formula, rule in (
        ("with one more key, whose score and value are 0", "eˢ/(1 + Σ eˢ)", total / (1 + total)),
        ("with one more key of the largest score", "eˢ/(max eˢ + Σ eˢ)", total / (top + total)),
        ("not divided by their sum", "eˢ", total),
        ("not divided by their sum", "eˢ⁻ᵐᵃˣ", total / top),
    ):  # fmt: skip
        if np.allclose(share[queries], rule[queries], rtol=1e-6):
            return Relation("weights-sum", f"a softmax {says}", f"p = {formula}", error)
    says = "the right weights times one number in each row"
    return Relation("weights-sum", says, "p = a(row)·softmax(s)", error)


def _biased(p, s, allowed, queries, tolerance):
    """A number added to each score that depends on head and distance alone."""
    T_q, T_k = s.shape[2:]
    seen = allowed & (p > SEEN)
    if T_q != T_k or not np.array_equal(seen, allowed):
        return None
    with np.errstate(all="ignore"):
        extra = np.where(seen, np.log(np.where(seen, p, 1)) - s, np.nan)
    step = np.diff(extra, axis=-1)  # what a row adds to all of its scores is gone
    distance = np.arange(T_k - 1)[None, :] - np.arange(T_q)[:, None]
    bias, slopes = np.zeros(s.shape[1:]), []
    for d in range(1 - T_q, T_k - 1):
        here = step[:, :, distance == d]
        some = [x[np.isfinite(x)] for x in here.swapaxes(0, 1).reshape(s.shape[1], -1)]
        if any(x.size and np.ptp(x) > 1e-6 * max(np.abs(x).max(), 1) for x in some):
            return None
        slopes.append([x.mean() if x.size else np.nan for x in some])
    slopes = np.array(slopes)  # (distances,H)
    table = np.concatenate([np.zeros((1, s.shape[1])), np.cumsum(np.nan_to_num(slopes), axis=0)])
    bias = table[np.arange(T_k)[None, :] - np.arange(T_q)[:, None] + T_q - 1].transpose(2, 0, 1)
    error = _error(p, _softmax(s + bias, allowed), queries)
    if error > 10 * tolerance:
        return None
    even = np.nanmax(np.nanmax(slopes, 0) - np.nanmin(slopes, 0)) < 1e-6 * np.nanmax(abs(slopes))
    m = ", ".join(f"{x:.4g}" for x in np.nanmean(slopes, axis=0)[:8])
    says = f"of scores with m·(key − query) added (ALiBi), m a head: {m}" if even else (
        "of scores with a bias added that depends on the distance of key and query alone"
    )  # fmt: skip
    return Relation("scores-biased", f"a softmax {says}", "softmax(s + bias)", error)


def _temperature(p, s, allowed, queries, tolerance):
    """A softmax of a multiple of the scores."""
    both = allowed & (p > SEEN)
    count = np.maximum(both.sum(-1, keepdims=True), 1)
    dy, dx = np.where(both, np.log(np.where(both, p, 1)), 0), np.where(both, s, 0)
    dy, dx = (np.where(both, z - z.sum(-1, keepdims=True) / count, 0) for z in (dy, dx))
    a = float((dy * dx).sum() / max((dx * dx).sum(), 1e-300))
    error = _error(p, _softmax(a * s, allowed), queries)
    if error > tolerance or abs(a - 1) < 1e-9:
        return None
    return Relation("temperature", f"softmax of {a:.6g} × the scores", f"softmax({a:.6g}·s)", error)
