"""Detection of active dropout: two runs differ, or some values are 0 and the others scaled up."""

import numpy as np

from minidistil.check.findings import Diagnosis

MESSAGE = (
    "Dropout is active in evaluation.\n"
    "yours: y = x·m/(1 − p) with a random m of 0 and 1\n"
    "right: y = x in evaluation\n"
    "fix: drop in training alone (in PyTorch F.dropout(x, p, training=self.training), or "
    "nn.Dropout and module.eval())"
)


def random_from(recorded, again):
    """A Diagnosis at the first array in which two runs of a module differ; None without one."""
    for number, (a, b) in enumerate(zip(recorded, again, strict=False)):
        if a.value.shape != b.value.shape or not np.array_equal(a.value, b.value, equal_nan=True):
            evidence = f"two runs on the same batch differ, first in operation {number} ({a.op})"
            return Diagnosis("dropout-active", MESSAGE, a.where, evidence)
    return None


def dropped(reference, alignment, where):
    """[Diagnosis] if an array is a quantity with some values 0 and the others scaled; else []."""
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
                evidence = f"{1 - share:.0%} of {name} is 0, the rest is scaled by {factor:.3f}"
                found = alignment.index.recorded[owner].where or where
                return [Diagnosis("dropout-active", MESSAGE, found, evidence)]
    return []
