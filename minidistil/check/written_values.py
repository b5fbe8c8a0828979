"""Written arrays as a Recording: in the order of the model, with the outputs apart.

A file has no order of computation, and its names may say nothing. An array takes the place of the
quantity that it holds, that its name says, or that it is nearest to.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidistil.check.align import DOUBLE, ENDS, SINGLE, Reference
from minidistil.check.layouts import IndexMap
from minidistil.check.located import NEAR
from minidistil.check.pair_gradients import says
from minidistil.check.recording import Recorded, Recording, Returned
from minidistil.check.trace_file import last
from minidistil.io import limits

OUTPUTS = {*ENDS, "last_hidden_state", "output", "outputs", "pooler_output", "prediction_logits"}


def recording_of(arrays: Mapping[str, np.ndarray], reference: Reference) -> Recording:
    """{name: array} of values on the reference's batch  ->  Recording.

    Raises ValueError where no array has the sizes of the batch and the model, and where none is
    finite.
    """
    fitting = {name: x for name, x in arrays.items() if x.size in reference.widths()}
    if not fitting:
        raise ValueError(_other_sizes(arrays, reference))
    if len(not_finite(arrays, reference)) == len(fitting):
        raise ValueError(
            f"every array holds NaN or infinity at real tokens: {limits.few(fitting, 5)}; write "
            f"values from before the first that is not finite"
        )
    double = all(x.dtype == np.float64 for x in fitting.values())
    precision = DOUBLE if double else SINGLE
    recorded = [
        Recorded(np.asarray(x, np.float64), name, "", not double) for name, x in fitting.items()
    ]
    recorded, meant = _ordered(recorded, reference, precision)
    returned = [
        Returned(name, np.asarray(arrays[name], np.float64), name)
        for name in output_names(arrays, recorded, reference, precision)
    ]
    return Recording(recorded, returned, None, precision, meant=meant)


def not_finite(arrays: Mapping[str, np.ndarray], reference: Reference) -> list[str]:
    """The names of the arrays that hold NaN or infinity at real tokens, in every layout."""
    shapes = {x.shape for x in reference.values.values()}
    found = []
    for name, x in arrays.items():
        if not np.isfinite(x).all():
            views = [v for shape in shapes for v in reference.frame.views(x, shape)]
            if views and not any(np.isfinite(reference.frame.real(v)).all() for v in views):
                found.append(name)
    return found


def _other_sizes(arrays, reference):
    """What is wrong with arrays of which none has the size of a quantity."""
    sizes = ", ".join(f"{name} {np.shape(x)}" for name, x in reference.batch.items())
    end = head_ends(reference)[-1]
    some = ", ".join(f"{name} {x.shape}" for name, x in list(arrays.items())[:4])
    return (
        f"no array has the sizes of the batch, {sizes}, on which {end} is "
        f"{reference.values[end].shape}; there are {some or 'none'}; compute on the batch of "
        f"minidistil trace --inputs-only"
    )


def head_ends(reference: Reference) -> list[str]:
    """The quantities that the task returns; for a body, its last hidden states."""
    inner = ("spans", "pooled", "loss", *reference.body)
    return [name for name in reference.ends if name not in inner] or list(reference.body)


def _ordered(recorded, reference, precision):
    """(the arrays in the order of the quantities that they hold or come nearest to, these)."""
    index, names = IndexMap(reference.frame, recorded), list(reference.values)
    places = {}
    for place, name in enumerate(names):
        number, _ = index.match(reference.values[name], reference.tolerance(name, precision))
        if number is not None:
            places.setdefault(number, place)
    held = set(places.values())
    free = [place for place in range(len(names)) if place not in held]
    for number, array in enumerate(recorded):
        if number not in places:
            places[number] = _place(array, reference, names, free)
    order = sorted(places, key=lambda n: (places[n], n))
    return [recorded[n] for n in order], [n for p, n in enumerate(names) if p in places.values()]


def _place(array, reference, names, free):
    """The place of the quantity among `free` that an array is meant for; the end for none."""
    for place in free:
        if says(array.where, names[place]):
            return place
    best, nearest = len(names), NEAR
    for place in free:
        exact = reference.values[names[place]]
        for view in reference.frame.views(array.value, exact.shape):
            error = reference.error(view, exact)
            if error < nearest:
                best, nearest = place, error
    return best


def output_names(
    arrays: Mapping[str, np.ndarray], recorded: Any, reference: Reference, precision: str
) -> list[str]:
    """The names of the arrays that are outputs: by their names, else by a size that no other
    quantity has, else by the values of an output."""
    named = [n for n in arrays if last(n) in OUTPUTS and not re.search(r"\d", n)]  # of no layer
    ends = head_ends(reference)
    for end in () if named else ends:
        size = reference.values[end].size
        if all(x.size != size for name, x in reference.values.items() if name not in ends):
            named += [name for name, x in arrays.items() if x.size == size and name not in named]
    index = IndexMap(reference.frame, recorded)
    found = [index.match(reference.values[e], reference.tolerance(e, precision))[0] for e in ends]
    named += [recorded[number].where for number in found if number is not None]
    return list(dict.fromkeys(named))


def unknown(arrays: Mapping[str, np.ndarray], comparison: Any, reference: Reference) -> list[str]:
    """The names of the arrays that hold no quantity, where all that do agree."""
    if comparison.report.verdict != "agree":
        return []
    known = {row.where for row in comparison.report.rows} | {o.label for o in comparison.outputs}
    return [
        name for name, x in arrays.items()
        if name not in known and not _holds(x, reference, comparison.alignment.precision)
    ]  # fmt: skip


def named_as(
    arrays: Mapping[str, np.ndarray], reference: Reference
) -> dict[str, tuple[str, float]]:
    """{array: (quantity, relative error)} of arrays whose name is that of a quantity, in the
    quantity's order. Scores are left out: a causal mask may be added to them."""
    found = {}
    for quantity, exact in reference.values.items():
        for name, x in arrays.items():
            if name.removeprefix("value.") != quantity or quantity.endswith("scores"):
                continue
            errors = [reference.error(v, exact) for v in reference.frame.views(x, exact.shape)]
            if errors and np.isfinite(min(errors)):
                found[name] = quantity, float(min(errors))
    return found


def _holds(x, reference, precision):
    """Whether an array holds any quantity: another array may hold the same one."""
    return any(
        reference.error(view, exact) <= reference.tolerance(name, precision)
        for name, exact in reference.values.items()
        for view in reference.frame.views(x, exact.shape)
    )
