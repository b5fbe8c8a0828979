"""Results are finite, or an error names the first op whose output is not.

The failed step runs once more on a backend whose ops check their outputs. An op has no name of the
layer that calls it, but its arguments are the parameters themselves and its backward's argument is
the cache of its forward; the identity of these objects gives the place in the model.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import numpy as np

from minidistil.ops import OPS


class NotFiniteError(ValueError):
    """An output of the model is not finite. place: the op and its parameters, for the message."""

    def __init__(self, place):
        super().__init__(
            f"there is no answer: {place}; the weights are damaged or too large for float32: fetch "
            f"them or train them again"
        )
        self.place = place


class Found(Exception):  # noqa: N818, it is no error but a place
    """Carries the place of an output that is not finite; caught in this module."""


def answer(model, run: Callable, numbers: Callable):
    """run(model), checked: all of numbers(result), arrays or None, are finite.

    run: computes with the model that it is given; after a failure it runs again. Raises
    NotFiniteError.
    """
    with np.errstate(all="ignore"):  # the check below replaces NumPy's warnings
        result = run(model)
    if finite(tuple(numbers(result)), model.ops.place):
        return result
    raise not_finite(model, run)


def not_finite(model, run: Callable) -> NotFiniteError:
    """The NotFiniteError of run(model), with the first op whose output is not finite."""
    return NotFiniteError(first_not_finite({"": model}, run) or "a number is not finite")


def first_not_finite(models: Mapping, run: Callable) -> str:
    """The first op whose output is not finite, as text; "" where all are.

    models: {"": student, "teacher": …}, the arguments of `run`, in this order. run: the step that
    failed.
    """
    checked = []
    for role, model in models.items():
        for name, p in model.params.items():
            if not np.isfinite(p).all():
                return f"{_of(role)}parameter {name} is not finite"
        names = {}
        watched = model.with_ops(_watch(model.ops, role, names))
        known = watched.canonical()  # GPT-2's has a bias of zeros that `names` lacks
        names.update({id(known[c]): name for c, name in watched.names.items()})
        checked.append(watched)
    try:
        with np.errstate(all="ignore"):
            run(*checked)
    except Found as place:
        return f"the first number that is not finite came out of {place}"
    return ""


def _watch(ops, role, names):
    """The same ops, which raise Found for an output that is not finite.

    names: {id of a parameter: its name}.
    """
    places, last = {}, ["no parameter"]  # {id of a cache: (its forward's place, the cache)}

    def check(place, result):
        if not finite(result, ops.place):
            raise Found(_of(role) + place)

    def watched(op, pair):
        def forward(*args, **fixed):
            y, cache = pair.forward(*args, **fixed)
            given = ", ".join(names[id(a)] for a in args if id(a) in names)
            where = f" with {given}" if given else f", after the op with {last[0]}"
            last[0] = given or last[0]
            if cache is not None:
                places[id(cache)] = where, cache
            check(f"{op}.forward{where}", y)
            return y, cache

        def backward(dy, cache):
            grads = pair.backward(dy, cache)
            where, _ = places.get(id(cache), ("", None))
            check(f"{op}.backward{where}", grads)
            return grads

        return SimpleNamespace(forward=forward, backward=backward)

    pairs = {op: watched(op, getattr(ops, op)) for op in OPS}
    return SimpleNamespace(name=ops.name, dtype=ops.dtype, place=ops.place, **pairs)


def finite(value, place) -> bool:
    """Whether all numbers of an array, or of a tuple of arrays, are finite; None is."""
    if isinstance(value, tuple):
        return all(finite(v, place) for v in value)
    return value is None or bool(np.isfinite(place.fetch(value)).all())


def _of(role):
    return f"the {role}'s " if role else ""
