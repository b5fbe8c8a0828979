"""The input of a right op, where an implementation computes it from an array of its own."""

import numpy as np

from minidistil.check.findings import Diagnosis
from minidistil.check.searches import apart

TRIED = 24  # arrays before the quantity
PAIRS = ("scores",)  # ops of which two inputs may be wrong together


def wrong_inputs(reference, alignment, view, call, owner, tolerance):
    """[(quantity, number of the array in its place, its view)] of the inputs with which a right op
    gives the array `view`, recorded as number `owner`; once for each way that there is.
    """
    if call is None:
        return
    arrays = {
        i: _before(reference, alignment, arg, owner, tolerance)
        for i, (arg, name) in enumerate(zip(call.args, call.names, strict=True))
        if isinstance(arg, np.ndarray) and name in reference.values
    }
    for i, some in arrays.items():
        for number, other in some:
            if _gives(reference, view, call, {i: other}, tolerance):
                yield [(call.names[i], number, other)]
    if call.op in PAIRS:
        for first, a in arrays[0]:
            for second, b in arrays[1]:
                if _gives(reference, view, call, {0: a, 1: b}, tolerance):
                    yield [(call.names[0], first, a), (call.names[1], second, b)]


def _before(reference, alignment, arg, owner, tolerance):
    """[(number, view)] of the arrays of an argument's sizes, the latest first."""
    _, owners, views, _ = alignment.index.kind(arg.shape)
    numbers = sorted({int(o) for o in owners if o < owner})[-TRIED:]
    pairs = [(int(o), v) for o, v in zip(owners, views, strict=True) if o in numbers]
    return [(o, v) for o, v in pairs if apart(reference, v, arg) > tolerance][::-1]


def _gives(reference, view, call, changes, tolerance):
    try:
        result = call.on(changes)
    except ValueError:
        return False
    return getattr(result, "shape", None) == view.shape and (
        apart(reference, view, result) <= tolerance
    )


def input_changed(name, changed, where):
    """The Diagnosis of an input that no search explains: the line that makes it."""
    sources = " and ".join(source for source, *_ in changed)
    other = "another array" if len(changed) == 1 else "other arrays"
    message = (
        f"{name} is computed rightly, from {other} than {sources}.\n"
        f"yours: {other}, made at {where}\nright: {sources}\n"
        f"fix: look at what {where} does behind {sources}"
    )
    evidence = "its op on this array gives your numbers in every entry"
    return Diagnosis("input-changed", message, where, evidence)
