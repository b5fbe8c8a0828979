"""Which mistake gives a module's numbers: the reference runs with each until one does.

A mistake is planted from the stage of the first difference on. It is named only if it gives the
first quantity that differs and those behind it, loses none that agreed, and fits far better than
the right op does; several that fit are told apart by how much of the rest they explain.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.explain import NEARER
from minidistil.check.mistakes import mistakes_of
from minidistil.check.program import SITES, Planted, stage_of
from minidistil.check.reference_ops import OBJECTIVES, RIGHT
from minidistil.testing import rms

ENOUGH = 3  # so many more quantities must agree, or all that are left


class Known(NamedTuple):
    """What the forms of some mistakes are made of."""

    foreign: tuple = ()  # matrices of the module that the model does not have
    layers: tuple = ()  # layers whose parameters may stand in for those of the first difference
    added: tuple = ()  # a vector that is added to every token


class Fit(NamedTuple):
    """A mistake that explains the numbers."""

    gain: int  # quantities that agree with it and not without
    error: float  # their mean error
    left: int  # quantities that still differ
    mistake: object
    value: object
    values: dict  # the reference's quantities with the mistake


def diagnose(reference, alignment, known):
    """The mistakes that give the module's numbers, best first, one for each id: [Fit, …]."""
    program, names, first = reference.program, alignment.names, alignment.first
    start = program.stages.index(stage_of(first))
    before = program.run(stop=start)[None] if start else None
    stage = [n for n in names if stage_of(n) == program.stages[start]]
    near, far = _by_distance(known, program.stages[start], stage, first)
    fits = []
    for forms in (near, far):
        for m, value, planted in forms:
            here = _run(program, planted, start, before, start + 1)
            if here is None or not _helps(reference, alignment, here, stage, m):
                continue
            everything = _run(program, planted, start, before, None)
            if fit := _fit(reference, alignment, everything, m, value):
                fits.append(fit)
        if any(fit.left == 0 for fit in fits):
            break  # nothing is left that a mistake further away could explain
    fits.sort(key=lambda fit: (-fit.gain, fit.error))
    best = {}
    for fit in fits:
        if fit.gain == fits[0].gain and fit.error <= 3 * fits[0].error:
            best.setdefault(fit.mistake.id, fit)
    return list(best.values())


def _by_distance(known, stage, names, first):
    """Every form of every mistake: those that show at the first difference, or up to two
    quantities before it, and the others. [(Mistake, value, Planted), …] twice."""
    place = names.index(first)
    window = {name.rpartition(".")[2] for name in names[max(0, place - 2) : place + 1]}
    near, far = [], []
    for m in mistakes_of(*(op for op in RIGHT if op not in OBJECTIVES)):
        for value, wrong in m.forms(known):
            for sites in _sites(m, stage):
                planted = Planted(m.op, wrong, sites)
                (near if planted.changes() & window else far).append((m, value, planted))
    return near, far


def _sites(m, stage):
    if m.op == "layer_of":
        return ((stage,),)
    return SITES.get(m.op, (None,))


def _run(program, planted, start, before, stop):
    """The values with a mistake; None where its form does not fit the shapes."""
    with np.errstate(all="ignore"):
        try:
            return program.run(planted, start, before, stop)
        except (ValueError, IndexError, TypeError):
            return None


def _helps(reference, alignment, values, stage, m):
    """Whether a mistake loses nothing in its stage and explains something of it.

    Heads may be merged wrongly by a mere view of the right context, which is then seen as right.
    """
    gained = False
    for name in stage:
        if name not in values:
            continue
        same = np.array_equal(values[name], reference.values[name], equal_nan=True)
        if name in alignment.good:
            viewed = m.op == "heads" and name.endswith("context")
            if not (same or viewed or _matches(reference, alignment, name, values[name])):
                return False
        elif not same and _matches(reference, alignment, name, values[name]):
            gained = True
    return gained


def _matches(reference, alignment, name, value):
    if value.shape != reference.values[name].shape:
        return False
    number, _ = alignment.index.match(value, reference.tolerance(name, alignment.precision))
    return number is not None


def _fit(reference, alignment, values, m, value):
    """A Fit, or None where too little is explained or the right op fits nearly as well."""
    if values is None:
        return None
    behind = alignment.names[alignment.names.index(alignment.first) :]
    bad = [n for n in behind if n not in alignment.good and n in values]
    errors = {}
    for name in bad:
        if values[name].shape != reference.values[name].shape:
            continue
        tolerance = reference.tolerance(name, alignment.precision)
        number, error = alignment.index.match(values[name], tolerance)
        if number is None:
            continue
        apart = reference.error(values[name], reference.values[name])
        if max(error, tolerance / 20) < NEARER * apart or not np.isfinite(apart):
            errors[name] = error
    if not errors or len(errors) < min(ENOUGH, len(bad)):
        return None
    # The last quantity is computed from all others: where it agrees, what is lacking is not seen.
    left = 0 if alignment.names[-1] in errors else len(bad) - len(errors)
    return Fit(len(errors), float(np.mean([*errors.values()])), left, m, value, values)


def what_is_known(reference, alignment, weights, teacher=None):
    """Known: what some mistakes need of the module and of the teacher."""
    first, program = alignment.first, reference.program
    layers = ()
    if first.startswith("layer."):
        here = int(first.split(".")[1])
        layers = tuple(i for i in range(program.a.L) if i != here)
        if teacher is not None:
            layers += tuple(teacher)
    foreign = tuple(
        x.astype(np.float64) for x in weights.foreign.values() if x.ndim == 2
    )  # fmt: skip
    foreign += tuple(x.T for x in foreign)
    return Known(foreign, layers, tuple(_added(reference, alignment)))


def _added(reference, alignment):
    """The vector that an array has more than the sum of the embeddings, the same at each token."""
    if stage_of(alignment.first) != "embeddings":
        return
    right = reference.values["embeddings_sum"]
    _, _, views, _ = alignment.index.kind(right.shape)
    for view in views:
        off = (view - right)[reference.frame.mask]
        mean = off.mean(axis=0)
        if rms(off - mean) <= 1e-6 * rms(right) < rms(mean):
            yield mean
            return
