"""Comparison of what an implementation returns with what the task returns, one row an output.

A quantity that is right inside and returned otherwise (halved, as probabilities, before its last
LayerNorm) is found here: every returned array is compared as it is.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidistil.check.align import ENDS, HEADS, SINGLE, heads_alone
from minidistil.check.findings import Diagnosis, Row
from minidistil.check.mistakes import mistakes_of
from minidistil.check.program import stage_of
from minidistil.check.relations import EXACT, PARTLY, by_line, relation
from minidistil.check.rows_moved import moved

WORDS = {  # parts of a returned name, and the quantities that it may be
    "start": ("start_logits",), "end": ("end_logits",), "pool": ("pooled", "sentence_embedding"),
    "embed": ("sentence_embedding",), "relationship": ("seq_relationship_logits",),
    "sop": ("seq_relationship_logits",), "nsp": ("seq_relationship_logits",),
    "logit": ("logits", "spans", "start_logits", "end_logits", "seq_relationship_logits"),
    "hidden": (), "state": (), "attention": (),
}  # fmt: skip

PAIR = {"start_logits", "end_logits"}
PAIRS = (PAIR, {*HEADS})  # two quantities of one size, in this order


class ComparedOutput(NamedTuple):
    """One returned array and the quantity that it should hold."""

    label: str
    where: str  # its place, in words
    shape: tuple
    quantity: str | None = None  # None: the model has no output of this size
    error: float = 0.0
    agrees: bool = False
    views: Sequence = ()  # the array in the quantity's shape, once a layout
    holds: str | None = None  # another quantity of the model, that it holds instead


def outputs(reference, returned, precision):
    """[ComparedOutput, …] of every returned array, in its order."""
    groups, both = _groups(reference, returned), _both_heads(reference, returned, precision)
    found, taken = [], []
    for r in returned:
        if r.value.dtype.kind != "f":
            found.append(_blank(r))
            continue
        wanted = groups.get(r.name) or _wanted(reference, r, both)
        wanted = [n for n in wanted if n not in taken] or wanted
        wanted = wanted[:1] if _ordered(wanted) else wanted
        output = _compared(reference, r, wanted, precision)
        taken.append(output.quantity)
        found.append(output)
    done = answered(reference, found)
    return [_extra(o) if done and o.label not in groups else o for o in found]


def answered(reference, found):
    """Whether what the task returns is among the outputs that agree: of DeiT's two heads, both."""
    right = {o.quantity for o in found if o.agrees}
    return bool(right & set(reference.ends)) or (bool(reference.heads) and right >= {*HEADS})


def together(found):
    """The quantities of a pair that answers only together; DeiT's heads, without their mean."""
    given = {o.quantity for o in found}
    return {n for pair in PAIRS if pair <= given and "logits" not in given for n in pair}


def _both_heads(reference, returned, precision):
    """Whether the logits of DeiT's two heads are returned, and not their mean."""
    if not reference.heads or not heads_alone(reference, returned):
        return False
    exact, allowed = reference.values["logits"], reference.tolerance("logits", precision)
    return all(
        reference.error(view, exact) > allowed
        for r in returned for view in _views(reference, r, "logits")
    )  # fmt: skip


def _extra(output):
    """An output beside the right ones may hold any quantity that is no unfinished state."""
    if output.agrees or output.holds is None or output.holds.endswith("output_sum"):
        return output
    if _ordered([output.quantity]):
        return output
    return output._replace(quantity=output.holds, error=0.0, agrees=True, holds=None)


def _ordered(names):
    """Whether quantities of one size differ by their order alone."""
    return any(set(names) <= pair for pair in PAIRS)


def _wanted(reference, r, both):
    """The quantities that an array may be, by its name and size, the likely one first.
    both: of `_both_heads`."""
    lower = r.name.lower()
    if reference.heads and _views(reference, r, "logits"):
        one = [head for part, head in zip(("cls", "dist"), HEADS, strict=True) if part in lower]
        return one or (list(HEADS) if both else ["logits"])
    mine = [n for n in reversed(reference.ends) if _views(reference, r, n)]
    for word, names in WORDS.items():
        if word in lower:
            chosen = [n for n in names if n in mine]
            return chosen or [n for n in mine if n in reference.body] or mine
    return sorted(mine, key=[*ENDS, "spans", *reference.body].index)


def _groups(reference, returned):
    """{returned name: [quantity]} of tuples that hold one array a layer."""
    states = [n for n in reference.values if n == "embeddings" or n.endswith(".output")]
    if "embeddings_mapping" in reference.values:
        states[0] = "embeddings_mapping"
    probs = [n for n in reference.values if n.endswith(".probs")]
    members = {}
    for r in returned:
        if found := re.fullmatch(r"(.+)\.(\d+)", r.name):
            members.setdefault(found[1], []).append(r)
    groups = {}
    for rs in members.values():
        for names in (states, states[1:], probs):
            if len(names) == len(rs) and all(
                _views(reference, r, n) for r, n in zip(rs, names, strict=True)
            ):
                groups |= {r.name: [n] for r, n in zip(rs, names, strict=True)}
                break
    return groups


def _views(reference, r, name):
    return list(reference.frame.views(r.value, reference.values[name].shape))


def _compared(reference, r, wanted, precision):
    """An array against the quantities that it may be  ->  ComparedOutput."""
    best, output = None, _blank(r)
    for name in wanted:
        exact, views = reference.values[name], _views(reference, r, name)
        for view in views:
            error = reference.error(view, exact)
            error = error if np.isfinite(error) else float("inf")
            agrees = bool(error <= reference.tolerance(name, precision))
            this = output._replace(quantity=name, error=error, agrees=agrees, views=views)
            if agrees:
                return this
            if best is None or error < best.error:
                best = this
    holds = _held(reference, r, precision)
    if best is None and holds is not None:
        error = reference.error(holds[1], reference.values[holds[0]])
        return output._replace(quantity=holds[0], error=error, agrees=True)
    if best is None:
        return output
    best = best._replace(quantity=wanted[0]) if len(wanted) == 1 else best
    return best._replace(holds=None if holds is None else holds[0])


def _blank(r):
    """The ComparedOutput of an array that has no quantity."""
    return ComparedOutput(r.name, r.where, r.value.shape)


def _held(reference, r, precision):
    """(name, view) of the quantity of the model that an array holds, or None."""
    for name in reversed(reference.values):
        for view in _views(reference, r, name):
            error = reference.error(view, reference.values[name])
            if error <= reference.tolerance(name, precision):
                return name, view
    return None


# ------------------------------------------------------- rows and names


def row_of(output, reference):
    """The Row of an output that has a quantity."""
    return Row(
        f"returned.{output.quantity}", "output", float(output.error),
        float(reference.rounding[output.quantity]), output.agrees, output.where,
    )  # fmt: skip


def named(output, reference, precision):
    """[Diagnosis] of an output that differs from its quantity; [] where nothing explains it."""
    where, held, name = output.where, output.holds, output.quantity
    if held is not None:
        evidence = f"{output.label} is {held}, to rounding"
        return [Diagnosis(*_exchanged(name, held), where, evidence)]
    frame, exact = reference.frame, reference.values[name]
    tolerance = EXACT if precision != SINGLE else 10 * reference.tolerance(name, precision)
    each = (
        _how(frame, search, v, exact, tolerance)
        for v in output.views for search in (relation, by_line, moved)
    )  # fmt: skip
    found = next((found for found in each if found is not None and found.id != PARTLY), None)
    if found is None:
        return []
    message = (
        f"{name}, an output, is {found.says}.\n"
        f"yours: {found.formula}, x = {name}\nright: y = x\nfix: give {name} as it is"
    )
    evidence = f"in every entry to {max(found.error, 1e-16):.0e}, relative to its rms"
    return [Diagnosis(found.id, message, where, evidence)]


def _how(frame, search, view, exact, tolerance):
    """The Relation of an output to its quantity by one search, or None."""
    if search is moved:
        return moved(frame, view, exact, tolerance) if exact.ndim == 3 else None
    return search(frame.rows(view), frame.rows(exact), tolerance)


def _exchanged(name, held):
    """(id, message) of a returned quantity that is not the one expected."""
    for known, op, id in (
        (held.endswith("output_sum") and name.endswith(".output"), "block", "hidden-before-norm"),
        ({name, held} == PAIR, "spans", "span-ends-swapped"),
    ):
        if known and (op != "block" or stage_of(held) == stage_of(name)):
            m = next(m for m in mistakes_of(op) if m.id == id)
            return m.id, m.message()
    return "another-quantity-returned", (
        f"Another quantity is given as the output: {held} in place of {name}.\n"
        f"yours: {held}\nright: {name}\nfix: give {name}"
    )
