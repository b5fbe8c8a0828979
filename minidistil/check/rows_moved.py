"""Rows at other places: which row of a table, or which token of a quantity, each token holds."""

import numpy as np

from minidistil.check.relations import Relation
from minidistil.testing import rms


def moved(frame, view, right, tolerance) -> Relation | None:
    """The relation of a view (B,T,W) whose real tokens hold other tokens of the right one."""
    B, T, W = right.shape
    if view.shape != right.shape:
        return None
    mask = frame.mask_of(right.shape)
    found = rows_of_table(view[mask], right.reshape(-1, W), tolerance)
    if found is None:
        return _pooled(mask, view, right, tolerance)
    numbers, error = found
    b, t = np.nonzero(mask)
    last, here, there = mask.sum(axis=1) - 1, b * T + t, t * B + b
    if np.array_equal(numbers, here):
        return None
    known = {
        "token T − 1 − t of its text: time is reversed": (b, T - 1 - t),
        "the token as far from its text's end: time is reversed": (b, last[b] - t),
        "text B − 1 − b: the batch is reversed": (B - 1 - b, t),
        "another token, by a reshape of (T,B) to (B,T) in place of a transpose":
            (here % B, here // B),
        "another token, by a reshape of (B,T) to (T,B) in place of a transpose":
            (there // T, there % T),
        "the first token of its text": (b, 0 * t), "the last token of its text": (b, last[b]),
    }  # fmt: skip
    known |= {f"token t {s:+d} of its text": (b, (t + s) % T) for k in range(1, T) for s in (k, -k)}
    known |= {f"a token of text b {s:+d}": ((b + s) % B, t) for k in range(1, B) for s in (k, -k)}
    for says, (text, token) in known.items():
        if np.array_equal(numbers, text * T + token):
            return Relation(
                "rows-moved", f"at token (b,t) the right one's {says}", "y = x[…]", error
            )
    return None


def _pooled(mask, view, right, tolerance):
    """One row at all tokens of a text: a mean or the largest of its tokens."""
    real = mask[:, :, None]
    pooled = {
        "the mean over all columns": right.mean(axis=1),
        "the mean over the real tokens": (right * real).sum(axis=1) / real.sum(axis=1),
        "the largest of the real tokens": np.where(real, right, -np.inf).max(axis=1),
    }
    for says, row in pooled.items():
        error = np.abs(view - row[:, None])[mask].max() / max(rms(view[mask]), 1e-30)
        if error <= tolerance:
            return Relation(
                "rows-pooled", f"at every token {says} of its text", f"y = {says}", error
            )
    return None


def rows_of_table(rows, table, tolerance):
    """(the number of the table's row that each row holds, the largest error relative to the rms);
    None where a row is not in the table."""
    probe = np.random.default_rng(0).normal(size=table.shape[1])  # one number a row
    keys = table @ probe
    order = np.argsort(keys, kind="stable")
    places = np.searchsorted(keys[order], rows @ probe)
    size, best, off = max(rms(rows), 1e-30), None, None
    for step in (-1, 0):  # the neighbours of each key
        number = order[np.clip(places + step, 0, len(order) - 1)]
        error = np.abs(table[number] - rows).max(axis=1)
        best = number if best is None else np.where(error < off, number, best)
        off = error if off is None else np.minimum(error, off)
    worst = float(off.max() / size)
    return (best, worst) if np.isfinite(worst) and worst <= tolerance else None


# ------------------------------------------------------- look-ups of the embeddings


def looked_up(frame, view, call, tolerance) -> Relation | None:
    """The relation of a sum of embeddings (B,T,C) that looks up other positions or other words."""
    word, position, *kind = call.args
    ids, first = call.fixed["ids"], call.fixed["first"]
    B, T = ids.shape
    mask, columns = frame.mask_of((B, T)), np.arange(first, first + T)
    rest = kind[0][call.fixed["types"]] if kind and kind[0] is not None else 0.0
    both = (
        ("position", position, view - word[ids] - rest, np.broadcast_to(columns, (B, T))),
        ("word", word, view - position[columns] - rest, ids),
    )
    for what, table, rows, right in both:
        found = rows_of_table(rows[mask], table, tolerance)
        if found is not None and not np.array_equal(found[0], right[mask]):
            says = _places(found[0], mask, first) if what == "position" else None
            says = says or _shifted(found[0], right, mask)
            some = ", ".join(
                f"{i} for {r}" for i, r in zip(found[0][:5], right[mask], strict=False)
            )
            says = f"{what} rows {says or f'at other places ({some}, …)'}"
            return Relation(f"{what}-rows", f"the sum with other {says}", f"other {what} rows",
                            found[1])  # fmt: skip
    return None


def _places(numbers, mask, first):
    """The positions of real tokens in words; None where no rule is found."""
    T, (b, t) = mask.shape[1], np.nonzero(mask)
    count = mask.cumsum(axis=1)[mask]
    known = {
        "from the end: T − 1 − column": T - 1 - t, "by text: the number of the text": b,
        "that count the real tokens: cumsum(mask) − 1": count - 1,
        "that count the real tokens from 1: cumsum(mask)": count,
        "from the end of each text": mask.sum(axis=1)[b] - 1 - t,
        "that run on over the batch: text · T + column": b * T + t,
    }  # fmt: skip
    return next((s for s, rule in known.items() if np.array_equal(numbers, rule + first)), None)


def _shifted(numbers, right, mask):
    """Rows by a rule of the right ones, in words; None where none is found."""
    T = mask.shape[1]
    step = numbers - right[mask]
    if (step == step[0]).all():
        return f"{step[0]:+d}: row i {step[0]:+d} in place of row i"
    if (numbers == numbers[0]).all():
        return f"that are all {numbers[0]}"
    b, t = np.nonzero(mask)
    ways = {"of time reversed": (b, T - 1 - t)}
    ways |= {f"of the token at t {s:+d}": (b, (t + s) % T) for k in range(1, T) for s in (k, -k)}
    ways |= {f"of text b {s:+d}": ((b + s) % len(mask), t) for s in (1, -1)}
    return next((w for w, at in ways.items() if np.array_equal(numbers, right[at])), None)
