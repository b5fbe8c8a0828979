"""Search for the mistake that reproduces a module's numbers.

The reference runs with each known mistake, from the stage of the first difference on. A mistake is
named only if it reproduces the first quantity that it changes and later ones, keeps all that
agreed, and fits far better than the correct op. Each later layer may have the mistake or not.
Among several, the one that explains most quantities wins; those that explain as many are all given.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.align import VAGUE
from minidistil.check.explain import NEARER
from minidistil.check.layouts import FAR
from minidistil.check.mistakes import mistakes_of
from minidistil.check.program import Planted, depends, stage_of
from minidistil.testing import rms

ORDER = "layers-order"  # a mistake of all layers together
ENOUGH = 3  # a mistake must explain this many more quantities, or all that are left


class Known(NamedTuple):
    """Arrays of the module and of the teacher that some mistakes take as their forms."""

    foreign: tuple = ()  # matrices of the module that the model does not have
    layers: tuple = ()  # layers whose parameters may replace those of the first difference
    indices: tuple = ()  # the model's other layers
    added: tuple = ()  # a vector that is added to every token


class Fit(NamedTuple):
    """A mistake that reproduces the numbers."""

    gain: int  # quantities that agree only with the mistake
    error: float  # their mean error
    left: list  # quantities that still differ
    mistake: object
    value: object
    values: dict  # the reference's quantities with the mistake
    accused: str  # the first quantity that the mistake changes
    stages: tuple  # those that have the mistake
    spared: tuple  # those that could have it and do not


def diagnose(reference, alignment, known):
    """The mistakes that reproduce the module's numbers, best first: [[Fit, …], …], a list an id."""
    program, names, first = reference.program, alignment.names, alignment.first
    start = program.stages.index(stage_of(first))
    before = program.run(stop=start)[None] if start else None
    stage = [n for n in names if stage_of(n) == program.stages[start]]
    near, far = _by_distance(program, known, program.stages[start], stage, first)
    trial = Trial(reference, alignment)
    fits = []
    for forms in (near, far):
        for m, value, planted in forms:
            here = _run(program, planted, start, before, start + 1)
            if here is None or not trial.helps(here, stage, m):
                continue
            followed = trial.follow(planted, start, before)
            fit = followed and trial.fit(*followed, m, value)
            if fit and not (m.id == ORDER and fit.spared):
                fits.append(fit)
        if any(not fit.left for fit in fits):
            break  # everything is explained
    fits.sort(key=lambda fit: (-fit.gain, fit.error))
    best = {}
    for fit in fits:
        if fit.gain == fits[0].gain and fit.error <= 3 * fits[0].error + 1e-13:
            best.setdefault(fit.mistake.id, []).append(fit)
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
    if m.op == "layer_of" and m.id != ORDER:
        return ((stage,),)
    return program.sites.get(m.op, (None,))


def _run(program, planted, start, before, stop):
    """The values with a mistake; None if its form does not fit the shapes."""
    with np.errstate(all="ignore"):
        try:
            return program.run(planted, start, before, stop)
        except (ValueError, IndexError, TypeError):
            return None


class Trial:
    """The test of a mistake against an alignment: it must reproduce the quantity that it changes
    first, and what follows, in every layer that has it."""

    def __init__(self, reference, alignment):
        self.reference, self.alignment = reference, alignment
        self.program = reference.program
        before = alignment.names[: alignment.names.index(alignment.first)]
        self.last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)

    def helps(self, values, stage, m):
        """Whether a mistake keeps every agreement in its stage, reproduces the first quantity that
        it changes, and explains a difference.

        A wrong merge of the heads may be a view of the right context, which is recorded as correct.
        """
        gained, accused = False, None
        for name in stage:
            if name not in values:
                continue
            same = np.array_equal(values[name], self.reference.values[name], equal_nan=True)
            matches = same or self.matches(name, values[name])
            viewed = m.op == "heads" and name.endswith("context")
            if name in self.alignment.good and not (matches or viewed):
                return False
            if accused is None and not same:
                accused = name
                if not (matches or viewed or self.unseen(name)):
                    return False
            gained |= name not in self.alignment.good and not same and matches
        return gained

    def unseen(self, name):
        """Whether a quantity is not written, or hidden by a fused kernel: no array of its size is
        recorded."""
        if self.alignment.meant is not None:
            return name not in self.alignment.meant
        return (
            name.endswith(VAGUE)
            and self.alignment.index.nearest(self.reference.values[name], self.last) is None
        )

    def matches(self, name, value):
        """Whether the module has an array with these numbers."""
        return self.error(name, value) is not None

    def error(self, name, value):
        """The relative error of the array with these numbers; None without one."""
        right, frame = self.reference.values[name], self.reference.frame
        if value.shape != right.shape and not frame.has(value.shape):
            return None
        tolerance = self.reference.tolerance(name, self.alignment.precision)
        number, error = self.alignment.index.match(value, tolerance)
        return None if number is None else error

    def follow(self, planted, start, x):
        """(values, stages with the mistake, stages without) from `start` on, in each later stage
        with or without the mistake, whichever reproduces more."""
        values, having, spared = {}, [], self._agreeing(planted, start)
        for number in range(start, len(self.program.stages)):
            wrong = _run(self.program, planted, number, x, number + 1)
            right = _run(self.program, None, number, x, number + 1)
            if wrong is None or right is None:
                return None
            names = [n for n in wrong if n is not None]
            touched = not all(np.array_equal(wrong[n], right[n], equal_nan=True) for n in names)
            mine = wrong
            if touched and number > start and self._count(right) > self._count(wrong):
                mine = right
            if touched:
                (having if mine is wrong else spared).append(self.program.stages[number])
            x = mine[None]
            values |= mine
        return values, tuple(having), tuple(spared)

    def _agreeing(self, planted, start):
        """The layers before `start`, all of which agree, that the mistake would change."""
        found = []
        for number in range(1, start):
            x = self.program.run(stop=number)[None]
            wrong = _run(self.program, planted, number, x, number + 1) or {}
            if not all(
                np.array_equal(wrong[n], self.reference.values[n], equal_nan=True)
                for n in wrong if n is not None
            ):  # fmt: skip
                found.append(self.program.stages[number])
        return found

    def _count(self, values):
        return sum(n is not None and self.matches(n, x) for n, x in values.items())

    def _carried_on(self, accused, values, errors):
        """Whether something that is computed from the accused quantity is reproduced, or the
        quantity itself is returned: a step on the way to it may have the mistake's numbers."""
        names = [n for n in values if n is not None]
        after = names[names.index(accused) + 1 :]
        if followers := [n for n in after if depends(n, accused)]:
            return any(n in errors for n in followers)
        exact = values[accused]
        tolerance = self.reference.tolerance(accused, self.alignment.precision)
        return any(
            self._equal(view, exact, tolerance)
            for r in self.alignment.returned
            for view in self.reference.frame.views(r.value, exact.shape)
        )

    def _equal(self, view, exact, tolerance):
        real = self.reference.frame.real(exact)
        return rms(self.reference.frame.real(view) - real) <= tolerance * max(rms(real), 1e-30)

    def fit(self, values, having, spared, m, value):
        """A Fit; None if it explains too little or the correct op fits nearly as well."""
        alignment, right = self.alignment, self.reference.values
        later = alignment.names[alignment.names.index(alignment.first) :]
        bad = [n for n in later if n not in alignment.good and n in values]
        errors = {}
        for name in bad:
            error = self.error(name, values[name])
            if error is None:
                continue
            apart = self.reference.error(values[name], right[name])
            floor = self.reference.tolerance(name, alignment.precision) / 20
            if max(error, floor) < NEARER * apart or not np.isfinite(apart):
                errors[name] = error
        changed = (n for n in values if n is not None and not np.array_equal(values[n], right[n]))
        accused = next(changed, None)
        if accused is None or not errors or len(errors) < min(ENOUGH, len(bad)):
            return None
        if not self._carried_on(accused, values, errors):
            return None
        # The last quantity depends on all others: if it agrees, the others were only not recorded.
        left = [] if alignment.names[-1] in errors else [n for n in bad if n not in errors]
        mean = float(np.mean([*errors.values()]))
        return Fit(len(errors), mean, left, m, value, values, accused, having, spared)


def what_is_known(reference, alignment, weights, teacher=None):
    """Collect the arrays that some mistakes take as their forms  ->  Known."""
    first, program = alignment.first, reference.program
    layers = indices = ()
    if first.startswith("layer."):
        here = int(first.split(".")[1])
        layers = indices = tuple(i for i in range(program.a.L) if i != here)
        if teacher is not None:
            layers += tuple(teacher)
    foreign = tuple(
        x.astype(np.float64) for x in weights.foreign.values() if x.ndim == 2
    )  # fmt: skip
    foreign += tuple(x.T for x in foreign)
    return Known(foreign, layers, indices, tuple(_added(reference, alignment)))


def _added(reference, alignment):
    """The vector by which an array exceeds the sum of the embeddings, equal at every token."""
    if stage_of(alignment.first) != "embeddings":
        return
    right = reference.values["embeddings_sum"]
    _, _, views, _ = alignment.index.kind(right.shape)
    for view in views:
        off = (view - right)[reference.frame.mask]
        if np.abs(off).max(initial=0) > FAR:
            continue  # masked scores
        mean = off.mean(axis=0)
        if rms(off - mean) <= 1e-6 * rms(right) < rms(mean):
            yield mean
            return
