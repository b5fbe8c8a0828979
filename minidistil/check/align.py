"""Alignment of the reference's quantities with a module's arrays, up to the first difference."""

from typing import NamedTuple

import numpy as np

from minidistil.check.families.family import program_of
from minidistil.check.layouts import IndexMap
from minidistil.check.program import depends
from minidistil.testing import FLOOR, rms

ENDS = (
    "loss",
    "logits",
    "start_logits",
    "end_logits",
    "sentence_embedding",
    "seq_relationship_logits",
    "pooled",
)  # fmt: skip  (what a module with a head returns)
HEADS = ("cls_logits", "distillation_logits")  # of DeiT, whose mean the task returns

# Nearly uniform weights agree whatever the queries are.
VAGUE = (".scores", ".probs", ".cross_scores", ".cross_probs")
SINGLE, DOUBLE, SHARP = "single", "double", 1e-10


class Reference:
    """Every quantity of a model on a batch in float64, and its float32 rounding error."""

    def __init__(self, model, batch):
        self.model, self.batch = model, batch
        program = program_of(model)
        self.program = program(model, batch)
        self.frame = self.program.frame
        self.values = self.program.run()
        self.values.pop(None)
        single = program(model, batch, np.float32).run()
        self.rounding = {name: self.error(single[name], x) for name, x in self.values.items()}
        self.body = [self.program.body]
        self.ends = [n for n in self.values if n in (*ENDS, "spans", *self.body)]  # returned
        self.heads = [n for n in self.values if n in HEADS]  # may be returned, not their mean

    def error(self, x, exact):
        """The relative rms error of a quantity on tokens; inf for another number of tokens."""
        if np.shape(x) != exact.shape:
            return float("inf")
        real = self.frame.real(exact)
        return rms(self.frame.real(np.asarray(x, np.float64)) - real) / max(rms(real), 1e-30)

    def tolerance(self, name, precision):
        """The largest relative error at which an array counts as this quantity: the rounding error
        of float32, times 3 for a float32 run. SHARP locates a difference in a float64 run."""
        if precision == SHARP:
            return SHARP
        return FLOOR + (1 if precision == DOUBLE else 3) * self.rounding[name]

    def widths(self):
        """The sizes of arrays that may hold one quantity, or two or three stacked."""
        sizes = set()
        for x in self.values.values():
            sizes.add(x.size)
            if x.ndim == 3:
                N = int(self.frame.mask_of(x.shape).sum())
                sizes |= {2 * x.size, 3 * x.size, N * x.shape[2]}
                sizes |= {len(x) * T * x.shape[2] for T in self.frame.lengths()}
        return sizes


class Alignment(NamedTuple):
    """The reference's quantities that were found in a module."""

    index: IndexMap
    precision: object  # SINGLE, DOUBLE or SHARP: which tolerance applies
    good: dict  # {quantity: number of the array that holds it}
    names: list  # quantities that the module is expected to compute, in order
    first: str | None  # the first quantity that differs
    returned: list  # the arrays that the module returns
    meant: object = None  # of the Recording


def align(reference, recording, precision=None):
    """Find the reference's quantities among the arrays of a Recording  ->  Alignment.

    precision: by default the recording's own.
    A quantity without an array does not count as a difference if a quantity computed from it
    agrees: a fused kernel does not write its scores to memory.
    """
    index, good = IndexMap(reference.frame, recording.recorded), {}
    precision = precision or recording.precision
    for name, value in reference.values.items():
        number, _ = index.match(value, reference.tolerance(name, precision))
        if number is not None:
            good[name] = number
    names = expected(reference, good, recording.returned)
    first = first_difference(names, good)
    return Alignment(index, precision, good, names, first, recording.returned, recording.meant)


def expected(reference, good, returned):
    """The names up to the last quantity that the module returns or computes."""
    names = list(reference.values)
    sizes = {r.value.size for r in returned}
    ends = [n for n in names if n in (*ENDS, *reference.heads, *reference.body)]
    if reference.heads and "logits" not in good and heads_alone(reference, returned):
        ends.remove("logits")
    for end in reversed(ends):
        if end in good or reference.values[end].size in sizes:
            return names[: names.index(end) + 1]
    return names


def heads_alone(reference, returned):
    """Whether a module returns the logits of both heads, and not their mean."""
    size = reference.values["logits"].size
    return sum(r.value.size == size for r in returned) == len(reference.heads)


def first_difference(names, good):
    """The first quantity that differs and on which no later agreeing quantity depends; or None."""
    for i, name in enumerate(names):
        if name in good:
            continue
        later = (n for n in names[i + 1 :] if n in good and not n.endswith(VAGUE))
        if not any(depends(n, name) for n in later):
            return name
    return None
