"""`explain`: the mistake in an attempt at one op, in words; None for a correct attempt.

    message = md.check.explain("layernorm", attempt, x, gamma, beta, eps=1e-12)

The attempt is compared with the reference op, then with every known mistake of that op. A message
names a mistake only if that mistake reproduces the attempt's numbers.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes import mistakes_of
from minidistil.check.reference_steps import steps
from minidistil.io.counts import part_of
from minidistil.testing import rms

TOLERANCE = 2e-6  # relative: the error of a chain of float32 roundings
NEARER = 0.2  # a mistake must fit five times better than the correct op
SAME = {"add": "residual", "gelu": "activation", "adamw": "steps"}
PARTS = {"attention": ("heads", "scores", "weights"), "weights": ("weights",)}
UNKNOWN = "None of the known mistakes reproduces these numbers."
FUNCTIONS = {**reference_ops.RIGHT, "steps": steps}


class Nothing:
    """The `Known` of a single op, without a module: forms that depend on one do not apply."""

    added = foreign = indices = layers = ()


def explain(op: str, attempt: np.ndarray | float | Mapping, *inputs, **fixed) -> str | None:
    """The mistake in `attempt`, as a message; None for a correct attempt.

    op: "embedding_sum", "layernorm", "linear", "gelu" (or "activation", name=…), "add", "scores",
    "softmax", "weights", "attention", "pool", "projection", "kl_div", "cosine", "cross_entropy",
    "mse", "mae", "moments", "relation", "binary_cross_entropy" or "adamw"; the inputs are those of
    the function of that name in `check/reference_ops.py` and `check/reference_steps.py`, arrays
    (B,T,·) or, for LayerNorm, linear and GELU, with any leading axes.
    attempt: an array, a number, or {name: array}.
    Raises ValueError for an unknown op.
    """
    op = SAME.get(op, op)
    if op not in FUNCTIONS:
        known = ", ".join(sorted({*FUNCTIONS, *SAME}))
        raise ValueError(f"op must be one of {known}, not {op!r}")
    inputs = [_exact(x) for x in inputs]
    wanted = FUNCTIONS[op](*inputs, **fixed)
    if shapes := _shape_trouble(attempt, wanted):
        return shapes
    mine, truth = _flat(attempt), _flat(wanted)
    if not _finite_alike(mine, truth):
        bad = int((~np.isfinite(mine)).sum())
        named = _named(op, mine, truth, inputs, fixed)
        return named or f"{part_of(bad, mine.size, 'number', 'is')} not finite (NaN or infinity)."
    error = rms(mine - truth)
    if error <= TOLERANCE * max(rms(truth), 1e-30):
        return None
    return _named(op, mine, truth, inputs, fixed) or _evidence(op, attempt, wanted, error)


def _named(op, mine, truth, inputs, fixed):
    """The message of the nearest mistake, if it reproduces `mine`; else None."""
    best, message = NEARER * _distance(mine, truth), None
    for m in mistakes_of(*PARTS.get(op, (op,))):
        for value, wrong in m.forms(Nothing):
            candidate = _attempted(op, m.op, wrong, inputs, fixed)
            if candidate is None or candidate.shape != mine.shape:
                continue
            off = _distance(mine, candidate)
            if off <= TOLERANCE * rms(np.nan_to_num(candidate)) and off < best:
                best, message = off, f"{m.id}: {m.message(value)}"
    return message


def _attempted(op, replaced, wrong, inputs, fixed):
    """The numbers of a mistake, flat; None if it does not apply to these inputs."""
    with np.errstate(all="ignore"):
        try:
            if op == "attention":
                return _flat(reference_ops.attention(*inputs, **fixed, replaced={replaced: wrong}))
            return _flat(wrong(*inputs, **fixed))
        except (TypeError, ValueError, IndexError):
            return None


def _distance(a, b):
    """Root mean square of the difference; infinite if only one of two numbers is finite."""
    if not _finite_alike(a, b):
        return float("inf")
    finite = np.isfinite(a)
    return rms(a[finite] - b[finite])


def _finite_alike(a, b):
    return a.shape == b.shape and bool((np.isfinite(a) == np.isfinite(b)).all())


def _exact(x):
    x = np.asarray(x) if not isinstance(x, dict | list | tuple | type(None)) else x
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def _flat(x):
    """Any answer as one row of float64."""
    if isinstance(x, dict):
        return np.concatenate([np.ravel(np.asarray(x[k], np.float64)) for k in sorted(x)])
    return np.ravel(np.asarray(x, np.float64))


def _shape_trouble(attempt, wanted):
    if isinstance(wanted, dict):
        if not isinstance(attempt, dict) or set(attempt) != set(wanted):
            return f"The answer must be a dict with the names {', '.join(sorted(wanted))}."
        return next((t for k in wanted if (t := _shape_trouble(attempt[k], wanted[k]))), None)
    if attempt is None or attempt is Ellipsis:
        return "There is no answer yet: the function returns nothing."
    if np.shape(attempt) == np.shape(wanted):
        return None
    text = f"The answer has shape {np.shape(attempt)}, it should have {np.shape(wanted)}."
    if np.shape(attempt) == np.shape(wanted)[::-1]:
        text += " Is it transposed?"
    return text


def _evidence(op, attempt, wanted, error):
    """Measurements of an attempt that no known mistake reproduces, as sentences."""
    mine, truth = _flat(attempt), _flat(wanted)
    where = int(np.argmax(np.abs(mine - truth)))
    lines = [
        f"The numbers of {op} have a relative error of {error / max(rms(truth), 1e-30):.1e}; the "
        f"largest is at index {where} of the flat array: {mine[where]:.6g}, expected "
        f"{truth[where]:.6g}. {UNKNOWN}"
    ]
    off = mine - truth
    factor = (mine @ truth) / max(truth @ truth, 1e-30)
    if factor and rms(mine - factor * truth) <= TOLERANCE * rms(mine):
        lines.append(f"They are {factor:.6g} times what they should be.")
    elif off.size > 1 and np.ptp(off) <= TOLERANCE * rms(truth):
        lines.append(f"Every number is too large by {off.mean():.6g}.")
    elif np.ndim(wanted) == 2 and len(set(wanted.shape)) == 1:
        transposed = np.asarray(attempt).T - wanted
        if rms(transposed) <= TOLERANCE * rms(truth):
            lines.append("They are the transpose of what they should be.")
    return " ".join(lines)
