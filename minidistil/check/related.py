"""Generic relations between the first quantity that differs and an array of the implementation."""

from minidistil.check.align import SINGLE
from minidistil.check.findings import Diagnosis
from minidistil.check.relations import EXACT, PARTLY, relation

TRIED = 24  # arrays after the last quantity that agrees


def related(reference, alignment, where):
    """[Diagnosis] of a relation that holds in every entry of the first difference; else []."""
    name, frame = alignment.first, reference.frame
    exact = reference.values[name]
    before = alignment.names[: alignment.names.index(name)]
    last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)
    tolerance = EXACT
    if alignment.precision == SINGLE:
        tolerance = 10 * reference.tolerance(name, SINGLE)
    _, owners, views, _ = alignment.index.kind(exact.shape)
    later = [(owner, v) for owner, v in zip(owners, views, strict=True) if owner > last]
    for owner, view in later[:TRIED]:
        found = relation(frame.rows(view), frame.rows(exact), tolerance)
        if found is None or found.id == PARTLY:
            continue
        message = (
            f"{name} is {found.says}.\nyours: {found.formula}, x = {name}\nright: y = x\n"
            f"fix: look for what makes {found.formula} of {name}"
        )
        evidence = f"in every entry to {max(found.error, 1e-16):.0e}, relative to its rms"
        place = alignment.index.recorded[owner].where or where
        return [Diagnosis(found.id, message, place, evidence)]
    return []
