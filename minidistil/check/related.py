"""Generic searches for what no known mistake explains, each stated with its evidence.

The first quantity that differs is compared with the arrays of the implementation that follow the
last one that agrees (`searches`). Where its op is right and its input is not, the input is an array
of the implementation, which is explained in its place (`wrong_input`).
"""

import numpy as np

from minidistil.check.align import SINGLE, VAGUE
from minidistil.check.findings import Diagnosis
from minidistil.check.relations import EXACT
from minidistil.check.searches import apart, explained
from minidistil.check.steps_inside import call_of, followed
from minidistil.check.wrong_input import input_changed, wrong_inputs

TRIED = 24  # arrays after the last quantity that agrees, and as many at the end


def related(reference, alignment, where):
    """[Diagnosis] of what holds in every entry of the first difference; else []."""
    with np.errstate(all="ignore"):
        for name in _seen(reference, alignment):
            call = call_of(reference, name)
            tolerance = _tolerance(reference, alignment, name)
            arrays, steps = _in_its_place(reference, alignment, name, call)
            for owner, view in arrays:
                found = explained(reference, name, view, call, tolerance)
                if found is not None:
                    place = alignment.index.recorded[owner].where or where
                    return [_diagnosis(name, found, place)]
            arrays += steps if _of_its_layer(call) else []
            if name.endswith(VAGUE) and not steps:
                continue  # hidden by a fused kernel: no array has its numbers
            if found := _by_its_input(reference, alignment, name, (arrays, call), tolerance):
                return [found]
    return []


def _tolerance(reference, alignment, name):
    if alignment.precision == SINGLE:
        return 10 * reference.tolerance(name, SINGLE)
    return EXACT


def _seen(reference, alignment):
    """The first difference; where a fused kernel hides it, the first quantity behind it, too."""
    names = alignment.names[alignment.names.index(alignment.first) :]
    for name in names[:3]:
        yield name
        if not name.endswith(VAGUE):
            return


def _later(reference, alignment, name):
    """[(number, view)] of arrays that may be a quantity, after the last one that agrees."""
    before = alignment.names[: alignment.names.index(name)]
    last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)
    _, owners, views, _ = alignment.index.kind(reference.values[name].shape)
    numbers = sorted({int(o) for o in owners if o > last})
    numbers = {*numbers[:TRIED], *numbers[-TRIED:]}
    pairs = [(int(o), v) for o, v in zip(owners, views, strict=True) if o in numbers]
    right, tolerance = reference.values[name], _tolerance(reference, alignment, name)
    return [
        (o, v) for o, v in pairs
        if np.isfinite(reference.frame.real(v)).all() and apart(reference, v, right) > tolerance
    ]  # fmt: skip


def _in_its_place(reference, alignment, name, call):
    """[(number, view)] of the arrays from which the implementation computes what follows: those
    with which the reference reproduces most later quantities of the stage. And of the others."""
    later = _later(reference, alignment, name)
    if call is None or call.number is None:
        return later, []
    counts = []
    for _, view in later:
        follow = followed(reference, name, call, view)
        found = [
            alignment.index.match(x, reference.tolerance(n, alignment.precision))[0] is not None
            for n, x in follow.items()
        ]
        counts.append(sum(found) if found else 0)
    most = max(counts, default=0)
    # Where nothing that follows is reproduced, the latest array is the quantity: the ones before
    # are steps on the way to it.
    best = [pair for pair, count in zip(later, counts, strict=True) if count == most][::-1]
    return best, [pair for pair, count in zip(later, counts, strict=True) if count < most]


def _of_its_layer(call):
    """Whether an op with a wrong input still reads an array of its own layer."""
    return call is not None and sum(isinstance(x, np.ndarray) for x in call.args) > 1


def _by_its_input(reference, alignment, name, found, tolerance):
    """A Diagnosis of a quantity whose op is right, and whose input is another array, explained if
    it can be; None where its input is right.

    found: the arrays that may be the quantity, and the OpCall that computes it.
    """
    (arrays, call), unexplained = found, None
    for owner, view in arrays:
        for changed in wrong_inputs(reference, alignment, view, call, owner, tolerance):
            relations = [
                explained(reference, source, other, call_of(reference, source), tolerance)
                for source, _, other in changed
            ]
            place = alignment.index.recorded[changed[0][1]].where
            if None not in relations:
                pairs = zip(changed, relations, strict=True)
                says = ", and ".join(f"{source} is {r.says}" for (source, *_), r in pairs)
                worst = max(r.error for r in relations)
                first = relations[0]._replace(says=f"computed from another input: {says}")
                return _diagnosis(name, first._replace(error=worst), place)
            unexplained = unexplained or input_changed(name, changed, place)
    return unexplained


def _diagnosis(name, found, where):
    message = (
        f"{name} is {found.says}.\nyours: {found.formula}\nright: y = {name}\n"
        f"fix: look for what makes {found.formula}"
    )
    evidence = f"in every entry to {max(found.error, 1e-16):.0e}, relative to its rms"
    return Diagnosis(found.id, message, where, evidence)
