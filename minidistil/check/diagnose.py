"""Search for the mistake that reproduces a module's numbers.

The reference runs with each known mistake, from the stage of the first difference on. A mistake is
named only if it reproduces the first quantity that differs and later ones, keeps all that agreed,
and fits far better than the correct op. Among several, the one that explains most quantities wins.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.explain import NEARER
from minidistil.check.mistakes import mistakes_of
from minidistil.check.program import Planted, stage_of
from minidistil.testing import rms

ENOUGH = 3  # a mistake must explain this many more quantities, or all that are left


class Known(NamedTuple):
    """Arrays of the module and of the teacher that some mistakes take as their forms."""

    foreign: tuple = ()  # matrices of the module that the model does not have
    layers: tuple = ()  # layers whose parameters may replace those of the first difference
    added: tuple = ()  # a vector that is added to every token


class Fit(NamedTuple):
    """A mistake that reproduces the numbers."""

    gain: int  # quantities that agree only with the mistake
    error: float  # their mean error
    left: int  # quantities that still differ
    mistake: object
    value: object
    values: dict  # the reference's quantities with the mistake


def diagnose(reference, alignment, known):
    """The mistakes that reproduce the module's numbers, best first, one per id: [Fit, …]."""
    program, names, first = reference.program, alignment.names, alignment.first
    start = program.stages.index(stage_of(first))
    before = program.run(stop=start)[None] if start else None
    stage = [n for n in names if stage_of(n) == program.stages[start]]
    near, far = _by_distance(program, known, program.stages[start], stage, first)
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
            break  # everything is explained
    fits.sort(key=lambda fit: (-fit.gain, fit.error))
    best = {}
    for fit in fits:
        if fit.gain == fits[0].gain and fit.error <= 3 * fits[0].error:
            best.setdefault(fit.mistake.id, fit)
    return list(best.values())


def _by_distance(program, known, stage, names, first):
    """All forms of all mistakes: those that change the first difference or one of the two
    quantities before it, and the others. [(Mistake, value, Planted), …] twice."""
    place = names.index(first)
    window = {name.rpartition(".")[2] for name in names[max(0, place - 2) : place + 1]}
    near, far = [], []
    for m in mistakes_of(*program.ops):
        for value, wrong in m.forms(known):
            for sites in _sites(program, m, stage):
                planted = Planted(m.op, wrong, sites)
                (near if planted.changes() & window else far).append((m, value, planted))
    return near, far


def _sites(program, m, stage):
    if m.op == "layer_of":
        return ((stage,),)
    return program.sites.get(m.op, (None,))


def _run(program, planted, start, before, stop):
    """The values with a mistake; None if its form does not fit the shapes."""
    with np.errstate(all="ignore"):
        try:
            return program.run(planted, start, before, stop)
        except (ValueError, IndexError, TypeError):
            return None


def _helps(reference, alignment, values, stage, m):
    """Whether a mistake keeps every agreement in its stage and explains a difference there.

    A wrong merge of the heads may be a view of the right context, which is recorded as correct.
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
    number, _ = alignment.index.match(value, reference.tolerance(name, alignment.precision))
    return number is not None


def _fit(reference, alignment, values, m, value):
    """A Fit; None if it explains too little or the correct op fits nearly as well."""
    if values is None:
        return None
    later = alignment.names[alignment.names.index(alignment.first) :]
    bad = [n for n in later if n not in alignment.good and n in values]
    errors = {}
    for name in bad:
        tolerance = reference.tolerance(name, alignment.precision)
        number, error = alignment.index.match(values[name], tolerance)
        if number is None:
            continue
        apart = reference.error(values[name], reference.values[name])
        if max(error, tolerance / 20) < NEARER * apart or not np.isfinite(apart):
            errors[name] = error
    if not errors or len(errors) < min(ENOUGH, len(bad)):
        return None
    # The last quantity depends on all others: if it agrees, the others were only not recorded.
    left = 0 if alignment.names[-1] in errors else len(bad) - len(errors)
    return Fit(len(errors), float(np.mean([*errors.values()])), left, m, value, values)


def what_is_known(reference, alignment, weights, teacher=None):
    """Collect the arrays that some mistakes take as their forms  ->  Known."""
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
    """The vector by which an array exceeds the sum of the embeddings, equal at every token."""
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
