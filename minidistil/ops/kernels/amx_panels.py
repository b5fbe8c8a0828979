"""Panels for AMX: float32 numbers, rounded or split, in the order in which tiles are loaded.

`amx_tile.py` draws a panel: steps of 2 tiles for each part of a number. A tile of A holds 16 rows,
a tile of B 16 columns; both are called *lines* here, and a tile of either is made from 16 lines of
32 channels:

    row form      a row of 64 bytes is a line:     32 channels of line r              (what A wants)
    column form   a row of 64 bytes is a word:     channels 2w, 2w+1 of all 16 lines  (what B wants)

One is the other's transpose, of 16 × 16 words. Where the channels of a line are neighbours in
memory, row form comes by itself, where lines are neighbours, column form does; what the factor
wants otherwise is transposed in place.

How float32 becomes 3 parts, each the upper half of a float32 (a bfloat16):

    y  = 2²⁴·x                exact, and the last bit of even the smallest float32, 2⁻¹⁴⁹, is now
                              2⁻¹²⁵: no part is subnormal, which AMX would take for zero
    x₀ = nearest(y)           8 bits; y − x₀ has 16 at most
    x₁ = nearest(y − x₀)      8 bits; y − x₀ − x₁ has 8
    x₂ = y − x₀ − x₁          so x₀ + x₁ + x₂ = y

Ties are rounded away from zero, one addition to the bits: any choice leaves the sum exact. The sums
of products come back by 2⁻⁴⁸. |x| < 2³² keeps all sums of a block finite. A panel with a larger
number, an infinity or NaN is *wide*: it is filled with zeros, and its rows or columns are left to
the float32 kernel.
"""

from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels.amx_tile import (
    FLOATS,
    FORMATS,
    INT8,
    LANES,
    ROW,
    SIDE,
    TILE,
    WORDS,
    loop,
)
from minidistil.ops.kernels.register_tile import I32, I64, _load, _shuffle, _store, get, put
from minidistil.ops.kernels.register_tile_narrow import I16, BFloat
from minidistil.ops.runtime.cpu import FEATURES, cgutils, exact, intrinsic, ir, own_code, types

SCALE, BACK = 2.0**24, 2.0**-48
WIDE = (127 + 32) << 23  # the bits of 2³²
MAGNITUDE, INFINITY, QUIET = 0x7FFFFFFF, 0x7F800000, 0x00400000
HALF, UPPER = 0x8000, -0x10000
PARTS = tuple(form.parts for form in FORMATS)
CHANNELS = tuple(form.channels for form in FORMATS)
SPARE = 2 * TILE  # bytes: the floats of a tile at an edge


def _all(value):
    return ir.Constant(WORDS, [value] * LANES)


def _nearest_even(builder, x):
    """The bits of 16 floats  ->  of the nearest bfloat16s: `number_formats.round_bf16`."""
    odd = builder.and_(builder.lshr(x, _all(16)), _all(1))
    nearest = builder.add(x, builder.add(odd, _all(HALF - 1)))
    nan = builder.icmp_signed(">", builder.and_(x, _all(MAGNITUDE)), _all(INFINITY))
    nearest = builder.select(nan, builder.or_(x, _all(QUIET)), nearest)
    return builder.and_(nearest, _all(UPPER))


def _nearest(builder, x):
    """The same with ties away from zero."""
    return builder.and_(builder.add(x, _all(HALF)), _all(UPPER))


def emit_split(builder, args, kind, by_rows, native=False):
    """A tile of 16 lines of 32 channels, for each part of the format, 2 tiles apart.

    args: addresses of the tile, of the source; bytes from one line (by_rows) or from one channel
    to the next; address of 16 words, which become the largest magnitudes (bits) seen so far, where
    there are several parts. native: whether the processor can round to bfloat16.
    """
    to, source, stride, seen = args
    parts = PARTS[kind]
    largest = cgutils.alloca_once(builder, WORDS)
    builder.store(_load(builder, seen, WORDS), largest)
    halves, places = ir.VectorType(I16, 2 * LANES), list(range(2 * LANES))  # of the 32 numbers
    if not by_rows:
        places = [
            lane for pair in zip(places[:LANES], places[LANES:], strict=True) for lane in pair
        ]
    order = [2 * place + 1 for place in places]  # upper halves of 32 words

    def row_of_tile(_, here):
        to, first, second = here
        bits = [_load(builder, at, WORDS) for at in (first, second)]
        for x in bits if parts > 1 else ():
            magnitude, top = builder.and_(x, _all(MAGNITUDE)), builder.load(largest)
            larger = builder.icmp_unsigned(">", magnitude, top)
            builder.store(builder.select(larger, magnitude, top), largest)
        if parts == 1 and native:
            name, kind = "llvm.x86.avx512bf16.cvtne2ps2bf16.512", ir.VectorType(BFloat(), 32)
            kind = ir.FunctionType(kind, [FLOATS] * 2)
            convert = cgutils.get_or_insert_function(builder.module, kind, name)
            floats = [builder.bitcast(x, FLOATS) for x in reversed(bits)]
            rounded = builder.bitcast(builder.call(convert, floats), halves)
            _store(builder, _shuffle(builder, rounded, rounded, places), to)
            return
        if parts == 1:
            rounded = [_nearest_even(builder, x) for x in bits]
            _store(builder, _halves(builder, rounded, order), to)
            return
        scale = ir.Constant(FLOATS, [SCALE] * LANES)
        rest = [builder.fmul(builder.bitcast(x, FLOATS), scale) for x in bits]
        for part in range(parts):
            bits = [builder.bitcast(x, WORDS) for x in rest]
            if part < 2:
                bits = [_nearest(builder, x) for x in bits]
            at = builder.add(to, I64(2 * TILE * part))
            _store(builder, _halves(builder, bits, order), at)
            near = [builder.bitcast(x, FLOATS) for x in bits]
            rest = [builder.fsub(x, y) for x, y in zip(rest, near, strict=True)]

    second = builder.add(source, I64(ROW) if by_rows else stride)
    stride = stride if by_rows else builder.mul(stride, I64(2))
    pointers = [(to, I64(ROW)), (source, stride), (second, stride)]
    loop(builder, I64(LANES), pointers, row_of_tile)
    _store(builder, builder.load(largest), seen)


def _halves(builder, pair, order):
    """32 of the 16-bit halves of two vectors of words."""
    halves = ir.VectorType(I16, 2 * LANES)
    return _shuffle(builder, *(builder.bitcast(x, halves) for x in pair), order)


def emit_transpose(builder, tile):
    """16 × 16 words in place: blocks of 1, 2, 4 and 8 words change sides across the diagonal."""
    rows = [builder.add(tile, I64(ROW * r)) for r in range(LANES)]
    v = [_load(builder, row, WORDS) for row in rows]
    for d in (1, 2, 4, 8):
        upper = [lane if not lane & d else lane - d + LANES for lane in range(LANES)]
        lower = [lane + d if not lane & d else lane + LANES for lane in range(LANES)]
        for r in range(LANES):
            if not r & d:
                v[r], v[r + d] = (
                    _shuffle(builder, v[r], v[r + d], half) for half in (upper, lower)
                )
    for row, x in zip(rows, v, strict=True):
        _store(builder, x, row)


@intrinsic(prefer_literal=True)
def split(typingctx, parts, by_rows, to, source, stride, seen):
    """`emit_split` for the format of so many parts."""
    kind, rows = PARTS.index(parts.literal_value), bool(by_rows.literal_value)

    def codegen(context, builder, sig, args):
        emit_split(builder, args[2:], kind, rows, "+avx512bf16" in FEATURES)
        return context.get_dummy_value()

    return types.void(parts, by_rows, *[types.int64] * 4), codegen


@intrinsic
def transpose_tile(typingctx, tile):
    """`emit_transpose`."""

    def codegen(context, builder, sig, args):
        emit_transpose(builder, *args)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def copy_row(typingctx, to, source):
    """64 bytes."""

    def codegen(context, builder, sig, args):
        _store(builder, _load(builder, args[1], WORDS), args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy_start(typingctx, to, source, count):
    """The first `count` of 16 floats, at most 16, and zeros for the others."""

    def codegen(context, builder, sig, args):
        to, source, count = args
        counts = _shuffle(
            builder,
            *[builder.insert_element(_all(0), builder.trunc(count, I32), I32(0))] * 2,
            [0] * LANES,
        )
        mask = builder.icmp_signed("<", ir.Constant(WORDS, list(range(LANES))), counts)
        pointer = builder.inttoptr(source, WORDS.as_pointer())
        zeros, kinds = ir.Constant(WORDS, None), [pointer.type, I32, mask.type, WORDS]
        load = ir.FunctionType(WORDS, kinds)
        load = cgutils.get_or_insert_function(builder.module, load, "llvm.masked.load.v16i32.p0")
        _store(builder, builder.call(load, [pointer, I32(1), mask, zeros]), to)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def clear_row(typingctx, to):
    """64 bytes of zeros."""

    def codegen(context, builder, sig, args):
        _store(builder, ir.Constant(WORDS, None), args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def word(typingctx, at):
    """The int32 at an address."""

    def codegen(context, builder, sig, args):
        return _load(builder, args[0], I32)

    return types.int32(types.int64), codegen


# ------------------------------------------------------- Numba: panels


class Lines(NamedTuple):
    """Rows of A or columns of B, in bytes."""

    at: int  # where the first one begins
    row: int  # from one line to the next
    step: int  # from one channel to the next
    count: int
    depth: int  # channels


@exact()
def pack(kind, right, lines, to, wide, spare):
    """Consecutive panels, of B or of A; wide (panels,): whether one is filled with zeros instead.

    to: where they go, 64-byte aligned. spare: SPARE bytes, and 64 for each panel. Where lines are
    neighbours in memory, all panels take a step before any takes the next, so that memory is read
    in long runs.
    """
    parts, channels, panels = PARTS[kind], CHANNELS[kind], len(wide)
    steps, seen = (lines.depth + channels - 1) // channels, spare + SPARE
    step, panel = 2 * TILE * parts, steps * 2 * TILE * parts
    for p in range(panels):
        clear_row(seen + ROW * p)
    across = max(1, panels) if lines.row == 4 else 1  # panels that take a step together
    for first in range(0, panels, across):
        for k in range(steps):
            for p in range(first, first + across):
                part = Lines(
                    lines.at + p * SIDE * lines.row + k * channels * lines.step,
                    lines.row, lines.step, lines.count - p * SIDE, lines.depth - k * channels,
                )  # fmt: skip
                pack_step(kind, right, part, to + p * panel + k * step, seen + ROW * p, spare)
    for p in range(panels):
        wide[p] = _zero_if_wide(parts, panel, to + p * panel, seen + ROW * p)


@exact()
def pack_step(kind, right, lines, tile, seen, spare):
    """Two tiles for each part: one step of a panel, of which as many lines and channels exist."""
    own_code()
    parts, channels = PARTS[kind], CHANNELS[kind]
    for half in range(2):
        filled, source = lines.count - 16 * half, lines.at + 16 * half * lines.row
        if filled <= 0:
            for r in range(16 * parts if right else 0):  # of A, no such tile is loaded
                clear_row(tile + 2 * TILE * (r // 16) + ROW * (r % 16))
        elif kind == INT8:
            for r in range(16):
                if r < filled:
                    copy_row(tile + ROW * r, source + r * lines.row)
                else:
                    clear_row(tile + ROW * r)
        else:
            inside = filled >= 16 and lines.depth >= channels
            by_rows = lines.row != 4
            stride = lines.row if by_rows else lines.step
            if not inside or (by_rows and lines.step != 4):
                _gather(source, lines, filled, spare)
                source, stride = spare, np.int64(2 * ROW if by_rows else ROW)
            _split(parts, by_rows, tile, source, stride, seen)
            if by_rows == right:
                for part in range(parts):
                    transpose_tile(tile + 2 * TILE * part)
        tile += TILE


@exact()
def _split(parts, by_rows, tile, source, stride, seen):
    """`split`, whose literal arguments choose the code."""
    if parts == 1 and by_rows:
        split(1, 1, tile, source, stride, seen)
    elif parts == 1:
        split(1, 0, tile, source, stride, seen)
    elif parts == 2 and by_rows:
        split(2, 1, tile, source, stride, seen)
    elif parts == 2:
        split(2, 0, tile, source, stride, seen)
    elif by_rows:
        split(3, 1, tile, source, stride, seen)
    else:
        split(3, 0, tile, source, stride, seen)


@exact()
def _gather(source, lines, filled, to):
    """What exists of 16 lines of 32 channels, and zeros around it: line after line, or, where lines
    are neighbours in memory, channel after channel."""
    filled, depth = min(filled, LANES), min(lines.depth, 2 * LANES)
    for at in range(to, to + SPARE, ROW):
        clear_row(at)
    if lines.row == 4:
        for k in range(depth):
            copy_start(to + ROW * k, source + k * lines.step, filled)
    elif lines.step == 4:
        for r in range(filled):
            for half in range(0, depth, LANES):
                at = to + 2 * ROW * r + 4 * half
                copy_start(at, source + r * lines.row + 4 * half, depth - half)
    else:
        for r in range(filled):
            for k in range(depth):
                put(to + 2 * ROW * r + 4 * k, get(source + r * lines.row + k * lines.step))


@exact()
def _zero_if_wide(parts, size, panel, seen):
    """Whether a panel of so many bytes that is to be split holds a number that cannot be."""
    found = False
    for lane in range(16):
        found = found or word(seen + 4 * lane) >= WIDE
    if found and parts > 1:
        for r in range(size // ROW):
            clear_row(panel + ROW * r)
    return found and parts > 1
