"""The rows of a forward: every quantity that is located in an implementation, and its place."""

from minidistil.check.findings import Row

NEAR = 1.0  # an array further from a quantity than the quantity is large is another one


def rows_of(reference, alignment, wrong, as_is):
    """([Row, …], {name: where}).  wrong: the reference's values with the mistake that fits.
    as_is: the recorded arrays in the implementation's own precision, whose errors are shown."""
    rows, places, last, begun = [], {}, -1, False
    as_is = as_is if len(as_is) == len(alignment.index.recorded) else None
    for name in alignment.names:
        exact = reference.values[name]
        begun = begun or name == alignment.first
        number = alignment.good.get(name)
        agrees, error = number is not None, 0.0
        if number is None and name in wrong and wrong[name].shape == exact.shape:
            tolerance = reference.tolerance(name, alignment.precision)
            number, _ = alignment.index.match(wrong[name], tolerance)
            if number is not None:
                error = reference.error(wrong[name], exact)
        if number is None and begun and (alignment.meant is None or name in alignment.meant):
            near = alignment.index.nearest(exact, last)
            tolerance = reference.tolerance(name, alignment.precision)
            if near is not None and tolerance < near[1] < NEAR:
                number, error, _ = near
        if number is None:
            continue
        last = max(last, number)
        where = places[name] = alignment.index.recorded[number].where
        if agrees:
            error = _own_error(reference, name, number, as_is, alignment)
        explained = reference.rounding[name]
        rows.append(Row(name, "forward", float(error), float(explained), agrees, where))
    return rows, places


def _own_error(reference, name, number, as_is, alignment):
    """The relative error of the implementation in its own precision."""
    exact = reference.values[name]
    array = (as_is or alignment.index.recorded)[number].value
    views = list(reference.frame.views(array, exact.shape))
    return min(reference.error(view, exact) for view in views)


def next_place(alignment, first):
    """The line that follows the last quantity that agrees."""
    before = alignment.names[: alignment.names.index(first)]
    last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)
    recorded = alignment.index.recorded
    return recorded[min(last + 1, len(recorded) - 1)].where if recorded else None


def between(alignment, rows):
    """(the last quantity that agrees, the first that is seen to differ, those between them that
    were not seen), of a difference that begins in a fused kernel; None where it is seen itself."""
    names, first = alignment.names, alignment.first
    seen = {row.name for row in rows}
    if first is None or first in seen:
        return None
    place = names.index(first)
    before = [n for n in names[:place] if n in alignment.good]
    after = [n for n in names[place:] if n in seen and n not in alignment.good]
    unseen = names[place : names.index(after[0])] if after else names[place:]
    hidden = [n for n in unseen if n not in alignment.good]
    return before[-1] if before else None, after[0] if after else None, hidden
