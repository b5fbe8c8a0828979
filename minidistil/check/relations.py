"""Relations between a wrong array and the right one: generic searches, each with its evidence.

Both arrays are rows (N,W): tokens and channels, texts and classes, or pairs of tokens and heads. A
relation has far fewer free numbers than the arrays have entries, and holds in every entry.
"""

import math
from typing import NamedTuple

import numpy as np

from minidistil.distilbert import softmax
from minidistil.testing import rms

EXACT = 1e-6  # the largest error, relative to the rms of the wrong array, in a float64 run
PARTLY = "partly-wrong"  # evidence, and no mistake's name
KNOWN_FACTORS = {
    1 / math.log(2): "1/ln 2: log₂ for ln", math.log(2): "ln 2", 1 / math.log(10): "log₁₀ for ln",
    math.log(10): "ln 10", math.sqrt(2): "√2", math.sqrt(0.5): "1/√2", math.pi: "π",
}  # fmt: skip


class Relation(NamedTuple):
    """How the wrong array follows from the right one."""

    id: str
    says: str  # "0.5000 × the right one"
    formula: str  # y as a function of the right x
    error: float  # the largest error in an entry, relative to the rms


def relation(mine: np.ndarray, right: np.ndarray, tolerance: float = EXACT) -> Relation | None:
    """The first relation that holds between two arrays (N,W); None without one."""
    finite = np.isfinite(mine).all() and np.isfinite(right).all()
    if mine.shape != right.shape or mine.size < 4 or not finite:
        return None
    searches = (_factor, _offset, _function, _affine, _axes)
    return _first(searches, mine, right, tolerance) or _some(mine, right, tolerance)


def by_line(mine: np.ndarray, right: np.ndarray, tolerance: float = EXACT) -> Relation | None:
    """The relation of arrays (N,W) of which each row or each channel has a number of its own."""
    return _first((_by_row, _by_channel), mine, right, tolerance)


def _first(searches, mine, right, tolerance):
    with np.errstate(all="ignore"):
        for find in searches:
            for id, says, formula, candidate in find(mine, right):
                error = _apart(mine, candidate)
                if error <= tolerance:
                    return Relation(id, says, formula, error)
    return None


def partly(mine: np.ndarray, right: np.ndarray) -> str:
    """ "; right but in …" of an array that agrees in part, as evidence; "" of another."""
    found = relation(mine, right)
    return f"; {found.says}" if found is not None and found.id == PARTLY else ""


def _apart(mine, candidate):
    """The largest difference, relative to the rms; infinite where the candidate is not finite."""
    off, size = np.abs(mine - candidate).max(), rms(mine)  # masked scores may overflow the rms
    return float(off / max(size, 1e-30)) if np.isfinite([off, size]).all() else float("inf")


def _factor(mine, right):
    """y = a·x, over all entries."""
    a = float((mine * right).sum() / max((right * right).sum(), 1e-300))
    if abs(a + 1) < 1e-9:
        yield "negated", "the right one with the opposite sign", "y = −x", -right
    known = next((why for f, why in KNOWN_FACTORS.items() if abs(a / f - 1) < 1e-6), "")
    says = f"{a:.4f} × the right one" + (f" ({known})" if known else "")
    yield "constant-factor", says, f"y = {a:.6g}·x", a * right


def _offset(mine, right):
    """y = x + b."""
    b = float((mine - right).mean())
    yield "constant-offset", f"the right one + {b:.6g}", f"y = x + {b:.6g}", right + b


def _affine(mine, right):
    """y = a·x + b."""
    centred = right - right.mean()
    a = float((mine * centred).sum() / max((centred * centred).sum(), 1e-300))
    b = float(mine.mean() - a * right.mean())
    says = f"{a:.6g} × the right one + {b:.6g}"
    yield "constant-factor", says, f"y = {a:.6g}·x + {b:.6g}", a * right + b


def _function(mine, right):
    """y = f(x), of known functions, and cut off at the largest and smallest entry."""
    top = right.max(axis=-1, keepdims=True)
    probs = softmax(right)
    yield "log-softmax", "log-softmax of the right one", "y = x − ln Σ eˣ", np.log(probs)
    yield "probabilities", "softmax of the right one: probabilities", "y = eˣ/Σ eˣ", probs
    sigmoid = 1 / (1 + np.exp(-right))
    yield "probabilities", "sigmoid of the right one: probabilities", "y = σ(x)", sigmoid
    yield (
        "maximum-subtracted",
        "the right one minus each row's largest",
        "y = x − max x",
        right - top,
    )
    centred, variance = right - right.mean(-1, keepdims=True), right.var(-1, keepdims=True)
    for eps in (1e-5, 1e-12, 1e-6):
        says = f"the right one through a LayerNorm without γ and β, ε = {eps:g}"
        yield "extra-norm", says, "y = (x − μ)/√(σ² + ε)", centred / np.sqrt(variance + eps)
    length = np.linalg.norm(right, axis=-1, keepdims=True)
    yield "length-normalised", "the right one scaled to length 1", "y = x/|x|", right / length
    for name, f in (
        ("tanh", np.tanh), ("exp", np.exp), ("log", np.log), ("sqrt", np.sqrt), ("abs", np.abs),
        ("square", np.square), ("reciprocal", np.reciprocal),
    ):  # fmt: skip
        yield "function-applied", f"{name} of the right one", f"y = {name}(x)", f(right)
    positive = right[right > 0]
    if positive.size and positive.size < right.size:
        yield "function-applied", "ReLU of the right one", "y = max(0, x)", np.maximum(right, 0)
    low, high = mine.min(), mine.max()
    if right.min() < low or right.max() > high:
        says = f"the right one cut off at {low:.4g} and {high:.4g}"
        yield "capped", says, f"y = min(max(x, {low:.4g}), {high:.4g})", np.clip(right, low, high)
    big = np.abs(right) > 0.3 * np.abs(right).max()
    caps = _solved_caps(mine[big], right[big])
    for cap in caps:
        says = f"the right one capped at ±{cap:.4g} by tanh"
        yield "capped", says, f"y = {cap:.4g}·tanh(x/{cap:.4g})", cap * np.tanh(right / cap)


def _solved_caps(mine, right):
    """The c for which c·tanh(x/c) is the largest entry, by bisection."""
    i = int(np.argmax(np.abs(right)))
    y, x = abs(mine[i]), abs(right[i])
    if mine[i] * right[i] <= 0 or not y < x:
        return ()
    low, high = y, 1e4 * x
    for _ in range(200):
        c = 0.5 * (low + high)
        low, high = (c, high) if c * np.tanh(x / c) < y else (low, c)
    return (0.5 * (low + high),)


def _axes(mine, right):
    """A permutation of channels or of rows."""
    for axis, of in ((1, "channels (the last axis)"), (0, "rows")):
        order = _permutation(mine, right, axis)
        if order is not None:
            how = _ordered(order)
            yield (
                "permuted",
                f"the right one with its {of} {how}",
                f"y = x[{how}]",
                np.take(right, order, axis),
            )
    if mine.shape[0] == mine.shape[1]:
        yield "transposed", "the transpose of the right one", "y = xᵀ", right.T


def _permutation(mine, right, axis):
    """The order in which the slices of the right one give mine; None if they do not."""
    a, b = (np.moveaxis(x, axis, 0) for x in (mine, right))
    if len(a) < 2 or a.shape[1] < 2:
        return None
    probe = np.random.default_rng(0).normal(size=a.shape[1])  # one number a slice
    mine_sums, right_sums = a @ probe, b @ probe
    by_mine, by_right = np.argsort(mine_sums, kind="stable"), np.argsort(right_sums, kind="stable")
    order = np.empty(len(a), int)
    order[by_mine] = by_right
    if np.array_equal(order, np.arange(len(a))) or len(np.unique(right_sums.round(9))) < 2:
        return None
    return order


def _ordered(order):
    """A permutation in words."""
    n = len(order)
    place = np.arange(n)
    if np.array_equal(order, place[::-1]):
        return "reversed"
    step = int(order[0])
    if np.array_equal(order, (place + step) % n):
        return f"rotated by {min(step, n - step)}"
    for parts in (2, 3, 4, 6, 8, 12, 16):
        if n % parts == 0 and n > parts:
            blocks = order.reshape(parts, -1)
            if (np.diff(blocks, axis=1) == 1).all():
                first = ", ".join(map(str, blocks[:, 0] * parts // n))
                return f"in {parts} blocks, in the order {first}"
            if np.array_equal(order, place.reshape(parts, -1).T.ravel()):
                return f"interleaved from {parts} blocks"
    return f"in the order {', '.join(map(str, order[:8]))}{', …' if n > 8 else ''}"


def _by_row(mine, right):
    """y = x + one number a row, or times one number a row."""
    if mine.shape[1] < 4:
        return
    shift = (mine - right).mean(axis=1, keepdims=True)
    yield "row-offset", "the right one plus one number in each row", "y = x + b(row)", right + shift
    scale = (mine * right).sum(axis=1, keepdims=True) / (right * right).sum(axis=1, keepdims=True)
    yield "row-factor", "the right one times one number in each row", "y = a(row)·x", right * scale


def _by_channel(mine, right):
    """y = x + one number a channel, or times one number a channel."""
    if mine.shape[0] < 4:
        return
    shift = (mine - right).mean(axis=0)
    yield (
        "channel-offset", "the right one plus one vector in every row", "y = x + b", right + shift,
    )  # fmt: skip
    scale = (mine * right).sum(axis=0) / np.maximum((right * right).sum(axis=0), 1e-300)
    yield (
        "channel-factor", "the right one times one vector in every row", "y = g ⊙ x", right * scale,
    )  # fmt: skip


def _some(mine, right, tolerance):
    """Right in at least a tenth of the rows or channels; the others may have a relation."""
    same = np.isclose(mine, right, rtol=1e-6, atol=1e-9 * rms(right))
    for axis, of in ((1, "rows"), (0, "channels")):
        fine = same.all(axis=axis)
        if not 0.1 <= fine.mean() < 1:
            continue
        wrong = np.flatnonzero(~fine)
        some = ", ".join(map(str, wrong[:8])) + (", …" if len(wrong) > 8 else "")
        says = f"right but in {len(wrong)} of {len(fine)} {of}: {some}"
        a, b = (np.take(x, wrong, axis=1 - axis) for x in (mine, right))
        lines = (_by_channel,) if axis == 1 else (_by_row,)
        found = _first((_factor, _offset, *lines), a, b, tolerance)
        if found is None or min(a.shape) < 2:
            return Relation(PARTLY, says, f"y = x but in some {of}", 0.0)
        return found._replace(says=f"{says}; there {found.says}")
    return None
