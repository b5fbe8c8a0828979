"""Dropout that is still on: two runs differ, or zeros stand where the rest is scaled up."""

import numpy as np

from minidistil.check.findings import Diagnosis

MESSAGE = (
    "Dropout is active while the module is in evaluation mode.\n"
    "yours: y = x·m/(1 − p) with a random m of 0 and 1\n"
    "right: y = x in evaluation\n"
    "fix: F.dropout(x, p, training=self.training), or nn.Dropout and module.eval()"
)


def random_from(seen, again):
    """A Diagnosis where two runs of a module differ, at the first array that does; else None."""
    for number, (a, b) in enumerate(zip(seen, again, strict=False)):
        if a.value.shape != b.value.shape or not np.array_equal(a.value, b.value, equal_nan=True):
            evidence = f"two runs on the same batch differ, first in operation {number} ({a.op})"
            return Diagnosis("dropout-active", MESSAGE, a.where, evidence)
    return None


def dropped(reference, alignment, where):
    """[Diagnosis] where an array is a quantity with zeros in it and the rest scaled up; else []."""
    names = alignment.names[: alignment.names.index(alignment.first) + 1]
    for name in reversed(names[-6:]):
        exact = reference.values[name]
        real = reference.frame.real(exact)
        _, owners, views, _ = alignment.index.kind(exact.shape)
        for owner, view in zip(owners, views, strict=True):
            mine = reference.frame.real(view)
            kept = mine != 0
            share = kept.mean()
            if not 0.2 < share < 0.999 or not real.all():
                continue
            ratio = mine[kept] / real[kept]
            factor = np.median(ratio)
            if np.ptp(ratio) <= 1e-4 * factor and abs(factor * share - 1) < 0.1:
                evidence = f"{name} has {1 - share:.0%} zeros, the rest is times {factor:.3f}"
                found = alignment.index.seen[owner].where or where
                return [Diagnosis("dropout-active", MESSAGE, found, evidence)]
    return []
