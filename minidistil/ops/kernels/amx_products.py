"""Float32 products on AMX: panels that are kept, and the numbers that cannot be split.

The sums of `amx_matmul.py` are as exact as float32's, or more so, for all numbers below 2³². Larger
ones, infinities and NaN make a panel of 32 rows or columns *wide*; AMX takes it for zeros, and the
rows and columns concerned are computed by the float32 kernel. So overflow, infinity and NaN come
out as they would without AMX. Small numbers need no such care: subnormal ones are split exactly.
"""

from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels import packing
from minidistil.ops.kernels.amx_matmul import make_job, multiply, pack_right, workers_for
from minidistil.ops.kernels.amx_tile import SIDE
from minidistil.ops.kernels.packing import frozen, remember
from minidistil.ops.runtime.workspace import empty, is_frugal


class After(NamedTuple):
    """What follows the product a·b: out = or, if add, += a·b + bias, then into = gelu(out)."""

    bias: np.ndarray | None  # (N,)
    add: bool
    form: int  # of GELU; NO_GELU: `into` is left alone
    into: np.ndarray  # (M,N)


def product(kind, a, b, out, after, by_float32=None):
    """out (M,N) from a (M,K), b (K,N), and what After says.

    kind: HIGHEST, HIGH or BF16. by_float32: a function of a, b, out and the fields of After, for
    the rows and columns that HIGHEST and HIGH cannot compute; BF16 computes all.
    """
    weight = frozen(b)
    panels = kept = packing.kept.get((id(weight), kind))
    if kept is None:
        panels = pack_right(kind, b)
        if weight is not None and not is_frugal():
            remember(weight, kind, panels)
    workers = workers_for(*out.shape, len(b))
    job = make_job(kind, a, panels, out, workers=workers, bias=after.bias, add=after.add,
                   form=after.form, g=after.into)  # fmt: skip
    multiply(workers, job)
    if job.wide.any() or panels.wide.any():
        rows, columns = (np.repeat(x, SIDE) for x in (job.wide, panels.wide))
        _redo(a, b, out, after, by_float32, (rows[: len(a)], columns[: b.shape[1]]))


def _redo(a, b, out, after, by_float32, wide):
    """The rows, and in all others the columns, whose panels were taken for zeros."""
    everything = np.arange(out.shape[1])
    for rows, columns in ((wide[0], everything), (~wide[0], np.flatnonzero(wide[1]))):
        rows = np.flatnonzero(rows)
        if len(rows) and len(columns):
            where = np.ix_(rows, columns)
            c = out[where]
            g = c if after.into is out else empty(c.shape)
            bias = None if after.bias is None or after.add else after.bias[columns]  # out has it
            by_float32(a[rows], b[:, columns], c, bias, after.add, after.form, g)
            out[where] = c
            if after.into is not out:
                after.into[where] = g
