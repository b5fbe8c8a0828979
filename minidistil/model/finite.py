"""Answers are finite, or there is none: which op was the first to give a number that is not.

The step that failed is run once more behind a backend whose every op looks at what it returns.
Ops know neither layers nor names, but they are handed the parameters themselves, and a backward is
handed its forward's cache: by the identity of these objects the place in the model is found.
"""

from types import SimpleNamespace

import numpy as np

from minidistil.ops import OPS


class NotFiniteError(ValueError):
    """A model has no answer: an op gave a number that is not finite.

    place: which op it was, and with which parameters. The message names it.
    """

    def __init__(self, place):
        super().__init__(
            f"there is no answer: {place}; the weights are damaged or too large for float32: fetch "
            f"them or train them again"
        )
        self.place = place


class Found(Exception):  # noqa: N818, it is no error but a place
    """Carries the place; never leaves this module."""


def answer(model, run, numbers):
    """run(model), whose numbers(result), arrays or None, are all finite.

    run: does the work with the model it is given, and may be asked twice. Raises NotFiniteError.
    """
    with np.errstate(all="ignore"):  # what is not finite is looked for just below
        result = run(model)
    if finite(tuple(numbers(result)), model.ops.place):
        return result
    raise not_finite(model, run)


def not_finite(model, run):
    """The NotFiniteError of what run(model) does, with the op that it comes from."""
    return NotFiniteError(first_not_finite({"": model}, run) or "a number is not finite")


def first_not_finite(models, run):
    """The place as text, or "" when every op stays finite.

    models: {"": student, "teacher": …}, the models that `run` takes, in this order.
    run: does the step that failed, with the models it is given.
    """
    checked = []
    for role, model in models.items():
        for name, p in model.params.items():
            if not np.isfinite(p).all():
                return f"{_of(role)}parameter {name} is not finite"
        names = {}
        watched = model.with_ops(_watch(model.ops, role, names))
        known = watched.canonical()  # with a bias of zeros that a decoder's checkpoint lacks
        names.update({id(known[c]): name for c, name in watched.names.items()})
        checked.append(watched)
    try:
        with np.errstate(all="ignore"):
            run(*checked)
    except Found as place:
        return f"the first number that is not finite came out of {place}"
    return ""


def _watch(ops, role, names):
    """The same ops, each raising Found with its place.

    names: the id of a parameter -> its name.
    """
    places, last = {}, ["no parameter"]  # id of a cache -> where it was made, and the cache itself

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


def finite(value, place):
    """Whether every number of an array, or of a tuple of them, is finite; None is."""
    if isinstance(value, tuple):
        return all(finite(v, place) for v in value)
    return value is None or bool(np.isfinite(place.fetch(value)).all())


def _of(role):
    return f"the {role}'s " if role else ""
