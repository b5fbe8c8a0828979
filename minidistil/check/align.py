"""The reference's quantities beside a module's arrays: what agrees, and where that ends."""

from typing import NamedTuple

import numpy as np

from minidistil.check.layouts import Frame, IndexMap
from minidistil.check.program import Program, depends
from minidistil.testing import FLOOR, rms

ENDS = (
    "logits",
    "start_logits",
    "end_logits",
    "sentence_embedding",
    "seq_relationship_logits",
    "pooled",
)  # fmt: skip  (what a module with a head returns)

VAGUE = (".scores", ".probs")  # weights may be near uniform whatever the queries are
SINGLE, DOUBLE, SHARP = "single", "double", 1e-10


class Reference:
    """A model and a batch: every quantity in float64, and how far float32 is from it."""

    def __init__(self, model, batch):
        self.model, self.batch = model, batch
        self.program = Program(model, batch)
        a = self.program.a
        self.frame = Frame(self.program.mask, a.H, a.C)
        self.values = self.program.run()
        self.values.pop(None)
        single = Program(model, batch, np.float32).run()
        self.rounding = {name: self.error(single[name], x) for name, x in self.values.items()}
        self.body = [f"layer.{a.L - 1}.output"]

    def error(self, x, exact):
        """The relative rms error of a quantity on tokens."""
        real = self.frame.real(exact)
        return rms(self.frame.real(np.asarray(x, np.float64)) - real) / max(rms(real), 1e-30)

    def tolerance(self, name, precision):
        """How far an array may be from this quantity: float32's own error, and one rounding; what
        is sought in a float64 run, once something differs, to locate it, is far nearer."""
        if precision == SHARP:
            return SHARP
        return FLOOR + (1 if precision == DOUBLE else 3) * self.rounding[name]

    def widths(self):
        """The sizes of arrays that may hold a quantity, or two or three of them."""
        N, sizes = int(self.frame.mask.sum()), set()
        for x in self.values.values():
            sizes.add(x.size)
            if x.ndim == 3:
                sizes |= {2 * x.size, 3 * x.size, N * x.shape[2]}
        return sizes


class Alignment(NamedTuple):
    """What of the reference was found in a module."""

    index: IndexMap
    precision: object  # SINGLE, DOUBLE or SHARP: how near an array must be to be a quantity
    good: dict  # name: number of the array that is this quantity
    names: list  # the quantities that the module is expected to compute, in order
    first: str | None  # the first that differs


def align(reference, seen, returned, precision):
    """Find the reference's quantities in what a module computed.

    A quantity that is not seen, while one that is computed from it agrees, was only not written
    down: a fused kernel keeps its scores to itself.
    """
    index = IndexMap(reference.frame, seen)
    good = {}
    for name, value in reference.values.items():
        number, _ = index.match(value, reference.tolerance(name, precision))
        if number is not None:
            good[name] = number
    names = expected(reference, good, returned)
    return Alignment(index, precision, good, names, first_difference(names, good))


def expected(reference, good, returned):
    """The names up to the last quantity that the module returns or computes: a body has no head."""
    names = list(reference.values)
    sizes = {tensor.numel() for _, tensor in returned}
    for end in reversed([n for n in names if n in (*ENDS, *reference.body)]):
        if end in good or reference.values[end].size in sizes:
            return names[: names.index(end) + 1]
    return names


def first_difference(names, good):
    """The first name that neither agrees nor has anything behind it that does."""
    for i, name in enumerate(names):
        if name in good:
            continue
        behind = (n for n in names[i + 1 :] if n in good and not n.endswith(VAGUE))
        if not any(depends(n, name) for n in behind):
            return name
    return None
