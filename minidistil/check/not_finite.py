"""NaN and infinity: the operation in which they begin, and why."""

import math
from typing import NamedTuple

import numpy as np

from minidistil.check.findings import Diagnosis


class Birth(NamedTuple):
    """An operation whose output has NaN or infinity that no input has."""

    number: int  # arrays recorded before it
    where: str
    says: str
    nan: bool


def birth(op, inputs, out, number, where):
    """[Birth] in one operation of PyTorch, whose inputs and output these are; [] without one.

    −∞ that is given, as masks are, is no Birth.
    """
    if bool(out.isfinite().all()):
        return []
    before = [x for x in inputs if hasattr(x, "isfinite") and x.is_floating_point()]
    scalars = [x for x in inputs if isinstance(x, int | float)]
    nan = bool(out.isnan().any())
    if nan and not any(bool(x.isnan().any()) for x in before):
        return [Birth(number, where, _why_nan(op, before), True)]
    if nan or any(bool(x.isinf().any()) for x in before) or any(map(math.isinf, scalars)):
        return []
    dtype, largest = str(out.dtype).removeprefix("torch."), _largest(out)
    large = [x for x in scalars if abs(x) > largest]
    says = f"{large[0]:g} overflows {dtype}" if large else f"{op} overflows {dtype}"
    return [Birth(number, where, says, False)]


def _largest(x):
    import torch

    return torch.finfo(x.dtype).max


def _why_nan(op, before):
    infinite = any(bool(t.isinf().any()) for t in before)
    if "softmax" in op:
        return "softmax over a row of −∞ alone is 0/0"
    if infinite and "mul" in op:
        return "0 · ∞"
    if infinite:
        return f"{op} of ∞: ∞ − ∞, 0 · ∞ or ∞/∞"
    return f"{op}: 0/0, or the root or the logarithm of a negative number"


def not_finite(reference, alignment, recording):
    """(quantity, Diagnosis) where the outputs have NaN or infinity and the reference has none."""
    if all(np.isfinite(r.value).all() for r in recording.returned_as_is):
        return None
    births = list(recording.births)
    begin = next((b for b in births if b.nan), births[0] if births else None)
    if begin is None or not _at_tokens(reference, recording):
        return None
    overflow = next((b for b in births if not b.nan and b.number <= begin.number), None)
    why = begin.says if overflow in (None, begin) else f"{overflow.says}; then {begin.says}"
    named = {number: name for name, number in alignment.good.items()}
    name = next((named[n] for n in sorted(named) if n >= begin.number), None)
    name = name or alignment.first or alignment.names[-1]
    message = (
        f"{'NaN' if begin.nan else 'Infinity'} from {name} on: {why}.\n"
        f"yours: numbers that are not finite\nright: finite numbers at every token\n"
        f"fix: mask with torch.finfo(scores.dtype).min, and keep one key for every query"
    )
    evidence = f"the first array with it is made by the operation at {begin.where}"
    return name, Diagnosis("not-finite", message, begin.where, evidence)


def _at_tokens(reference, recording):
    """Whether an output is not finite at a real token."""
    for r in recording.returned_as_is:
        for name in reference.ends:
            for view in reference.frame.views(r.value, reference.values[name].shape):
                if not np.isfinite(reference.frame.real(view)).all():
                    return True
    return False
