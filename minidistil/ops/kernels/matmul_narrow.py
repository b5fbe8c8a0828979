"""Matrix product of the narrow formats: y = x·Wᵀ + b where x and W are rounded first.

Panels, tiles and the split among threads are those of `matmul.py`. Two things differ. W is a
model's weight, so it is rounded and packed once, with NumPy, and kept. And a panel of x is rounded
while it is packed: a row at a time into a line that stays in the first-level cache, from which it
is copied into the panel word by word (`register_tile_narrow.py` defines a word).

    x rows ──► lines (MR, S words) ──► panel: step 0: MR words, step 1: MR words, … S−1
               rounded

int8 takes the whole sum over channels at once: 32 bits hold it, so no partial sum is stored.
bfloat16 goes block by block, KC channels each, as float32 does, because a sum of few numbers
rounds less.
"""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels import amx_linear
from minidistil.ops.kernels.activation import CODES
from minidistil.ops.kernels.amx_rows import PackedRows, empty_rows
from minidistil.ops.kernels.matmul import activate_strip
from minidistil.ops.kernels.number_formats import quantize, round_bf16
from minidistil.ops.kernels.packing import KC, SMALL, Tiles, share_of
from minidistil.ops.kernels.register_tile import MR, NR, transpose
from minidistil.ops.kernels.register_tile_narrow import (
    BF16,
    INT8,
    Bf16Tile,
    Int8Tile,
    bf16_tile,
    int8_tile,
)
from minidistil.ops.kernels.row_rounding import bf16_row, whole_row
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import address_of, exact, get_num_threads, prange, use_threads
from minidistil.ops.runtime.workspace import empty, owns_memory

NEAR = 1 << 18  # bytes of packed x that stay in the second-level cache while panels of W pass by
TOGETHER = 4  # steps packed at a time
SHORT = INT8 is not None and INT8.depth == 4  # x has 8 bits
LOWEST = -128 if SHORT and INT8.left == "int8" else 0  # of these
SHIFT = np.int32(0 if BF16.depth == 1 else 16)

_kept = {}  # {(id of a frozen weight, name of the packing): Packed}


class Packed(NamedTuple):
    """A weight (O,I) in panels: of NR output channels each, `steps` steps, NR words a step."""

    panels: np.ndarray  # (⌈O/NR⌉, steps, NR, channels a word)
    steps: int
    sums: np.ndarray  # Σw of each channel, (O′,) int32, O′ = ⌈O/NR⌉·NR; empty for bfloat16
    scale: np.ndarray  # (O′,) float32, or empty


def pack_int8(weight: np.ndarray) -> Packed:
    """weight (O,I)  ->  its panels, quantised to int8."""
    w, scale = quantize(weight)
    wide = -(-len(w) // NR) * NR - len(w)
    sums = w.sum(axis=1, dtype=np.int32)
    return _packed(w, INT8.depth, np.pad(sums, (0, wide)), np.pad(scale, (0, wide)))


def pack_bf16(weight: np.ndarray) -> Packed:
    """weight (O,I)  ->  its panels, rounded to bfloat16."""
    upper = np.ascontiguousarray(round_bf16(weight)).view(np.uint32) >> 16
    return _packed(upper.astype(np.uint16), 2, np.zeros(0, np.int32), np.zeros(0, np.float32))


def _packed(w, depth, sums, scale):
    O, I = w.shape
    panels, steps = -(-O // NR), max(1, -(-I // (depth * TOGETHER))) * TOGETHER
    filled = np.zeros((panels * NR, steps * depth), w.dtype)
    filled[:O, :I] = w
    filled = filled.reshape(panels, NR, steps, depth).transpose(0, 2, 1, 3)
    return Packed(np.ascontiguousarray(filled), steps, sums, scale)


def packed(weight: np.ndarray, pack: Callable[[np.ndarray], Packed]) -> Packed:
    """pack(weight); for a read-only array it is computed once, and kept as long as the array lives.

    A model's update replaces arrays, so the kept panels are never out of date.
    """
    if weight.flags.writeable or not owns_memory(weight):
        return pack(weight)
    key = id(weight), pack.__name__
    if key not in _kept:
        _kept[key] = pack(weight)
        weakref.finalize(weight, _kept.pop, key)
    return _kept[key]


def linear_int8(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, gelu: str | None = None
) -> np.ndarray:
    """x (N,I), weight (O,I), bias (O,), all float32  ->  y (N,O); see `linear_int8.py`.

    gelu: one of activation.CODES, applied to y.
    Raises ValueError where the processor has none of the instructions in `register_tile_narrow.py`.
    """
    if INT8 is None:
        raise ValueError(
            "int8 needs a processor with SSE2, AVX2, AVX-512BW or Arm's dot product, and this one "
            "has none of them; use bfloat16 or float32"
        )
    tiles = amx_linear.pack_int8_tiles, amx_linear.linear_int8, empty
    return _linear(x, weight, bias, gelu, INT8, pack_int8, tiles)


def linear_bf16(
    x: np.ndarray | PackedRows,
    weight: np.ndarray,
    bias: np.ndarray,
    gelu: str | None = None,
    *,
    for_linear: bool = False,
) -> np.ndarray | PackedRows:
    """x (N,I), weight (O,I), bias (O,), all float32  ->  y (N,O); see `linear_bf16.py`.

    for_linear: with `gelu`, y is PackedRows where there is AMX, for another linear_bf16.
    """
    tiles = amx_linear.pack_bf16_tiles, amx_linear.linear_bf16
    new = empty_rows if for_linear else empty
    return _linear(x, weight, bias, gelu, BF16, pack_bf16, (*tiles, new))


def _linear(x, weight, bias, gelu, dot, pack, tiles):
    """tiles: for AMX, what packs W, what multiplies, and what makes y."""
    for name, array in (("x", x), ("weight", weight), ("bias", bias)):
        if array.dtype != np.float32:
            raise TypeError(f"the kernels round from float32, and {name} is {array.dtype}")
    if len(x.shape) != 2 or weight.shape != (len(bias), x.shape[1]):
        raise ValueError(
            f"linear needs x (N,I), weight (O,I) and bias (O,), not {x.shape}, {weight.shape} and "
            f"{bias.shape}"
        )
    (N, I), O = x.shape, len(bias)
    if N and I and O and amx.in_use():
        pack, multiply, new = tiles
        y = new((N, O))
        x = x if isinstance(x, PackedRows) else np.ascontiguousarray(x)
        multiply(x, packed(weight, pack), bias, y, CODES[gelu])
        return y
    x, y = np.ascontiguousarray(x), empty((N, O))
    if N and O:
        amx.note(amx.vectors())
        weight = packed(weight, pack)
        I, J = -(-N // MR), len(weight.panels)
        workers = 1 if N * x.shape[1] * O < SMALL else get_num_threads()
        words = weight.steps * weight.panels.shape[3] // dot.depth  # of one row of x
        line = np.dtype(dot.left)
        lines = np.zeros((workers, MR, 4 * words // line.itemsize), line)
        a, spare = empty((I, words, MR)), empty((workers, MR, NR))
        scales, zeros = empty((I, MR)), empty((I, MR), np.int32)
        padded = np.zeros(J * NR, np.float32)
        padded[:O] = bias
        b = weight.panels.view(np.uint8).reshape(J, -1)
        job = NarrowJob(x, lines, a, scales, zeros, b, weight.steps, weight.sums, weight.scale,
                        padded, y, CODES[gelu], spare)  # fmt: skip
        _multiply(workers, job)
    return y


class NarrowJob(NamedTuple):
    """Arguments of the kernels; I and J count panels of x and of W."""

    x: np.ndarray  # (N,I)
    lines: np.ndarray  # (workers,MR,·), rounded rows of x
    a: np.ndarray  # (I,words,MR), panels of x
    scales: np.ndarray  # (I,MR) of rows of x, for int8
    zeros: np.ndarray  # (I,MR) of rows of x, for int8
    b: np.ndarray  # (J,bytes), panels of W
    steps: int
    sums: np.ndarray  # of Packed
    scale: np.ndarray  # of Packed
    bias: np.ndarray  # (J·NR,)
    y: np.ndarray  # (N,O)
    form: int
    spare: np.ndarray  # (workers,MR,NR), tiles that extend beyond y


@exact(parallel=True)
def _multiply(workers, job):
    """All workers pack x; when the last one has finished, all compute tiles."""
    before = use_threads(workers)
    for t in prange(workers):
        _round(np.int64(t), workers, job)
    use_threads(workers)  # a call between two loops: Numba fuses neighbours, without the wait
    for t in prange(workers):
        _compute(np.int64(t), workers, job)
    use_threads(before)


@exact()
def _round(t, workers, job):
    """Packs worker t's share of the panels of x, rounded by way of its lines."""
    x, a, line, row = job.x, job.a, job.lines[t], job.lines.strides[1]
    for i in range(t * len(a) // workers, (t + 1) * len(a) // workers):
        for p in range(MR):
            n = i * MR + p
            if n >= len(x):
                line[p] = 0
            elif len(job.scale):
                scale, zero = whole_row(x[n], line[p], SHORT, LOWEST)
                job.scales[i, p], job.zeros[i, p] = scale, zero
            else:
                bf16_row(x[n], line[p], SHIFT)
        source, to = address_of(line), address_of(a[i])
        for k in range(0, a.shape[1], TOGETHER):
            transpose(to + 4 * k * MR, source + 4 * k, row, MR)


@exact()
def _compute(t, workers, job):
    """Computes worker t's tiles of y. One that extends beyond y is computed in a spare one, and its
    inner part is copied."""
    i0, i1, j0, j1 = share_of(t, len(job.a), len(job.b), workers)
    a, b, y, steps, spare = job.a, job.b, job.y, job.steps, job.spare[t]
    (N, O), whole = y.shape, len(job.scale) > 0
    a_step, a_panel = a.strides[1] * (a.shape[1] // steps), a.strides[0]
    b_step, b_panel = b.shape[1] // steps, b.shape[1]
    kc, near = steps if whole else KC // 2, max(1, NEAR // a_panel)
    for block in range(i0, i1, near):
        end = min(block + near, i1)
        for j in range(j0, j1):
            n, column = min(NR, O - j * NR), 4 * j * NR
            bias, b_at = address_of(job.bias) + column, address_of(b) + j * b_panel
            for i in range(block, end):
                m = min(MR, N - i * MR)
                inside = m == MR and n == NR
                to = address_of(y) + 4 * i * MR * O + column if inside else address_of(spare)
                row, a_at = 4 * (O if inside else NR), address_of(a) + i * a_panel
                for k in range(0, steps, kc):
                    if whole:
                        int8_tile(Int8Tile(
                            steps, a_at, b_at, to, row, address_of(job.scales[i]),
                            address_of(job.zeros[i]), address_of(job.scale) + column,
                            address_of(job.sums) + column, bias))  # fmt: skip
                    else:
                        bf16_tile(Bf16Tile(min(kc, steps - k), a_at + k * a_step,
                                           b_at + k * b_step, to, row, k, bias))  # fmt: skip
                if not inside:
                    y[i * MR : i * MR + m, j * NR : j * NR + n] = spare[:m, :n]
            activate_strip(y, y, job.form, Tiles(block, end, j0, j1), j)
