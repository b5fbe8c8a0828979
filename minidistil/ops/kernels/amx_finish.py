"""From a block of sums on AMX to entries of C: scaled, added to, sent through GELU, stored.

A block leaves the tile registers as 32 × 32 sums in scratch memory (`amx_tile.py`). Each becomes

    C = (sums·factor + bias) + what C holds,  g = gelu(C)

The vector units that compute this are idle while tiles are multiplied. So a block is not finished
at once: it waits, and a few of its rows are finished after each step of the next block. The
processor executes both at the same time, and stores to C are spread over that time.
"""

from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels.activation import (
    ERF,
    NO_GELU,
    SHORT,
    gelu_erf,
    gelu_erf_short,
    gelu_tanh,
)
from minidistil.ops.kernels.amx_panels import (
    BACK,
    SPARE,
    Lines,
    copy_row,
    pack_step,
)
from minidistil.ops.kernels.amx_tile import (
    BF16,
    FLOATS,
    INT8,
    LANES,
    ROW,
    SIDE,
    TILE,
    WORDS,
    loop,
    prefetch,
)
from minidistil.ops.kernels.packing import up
from minidistil.ops.kernels.register_tile import F32, I32, I64, _fields, _load, _store, get, put
from minidistil.ops.kernels.register_tile_narrow import _everywhere
from minidistil.ops.runtime.cpu import (
    carray,
    cgutils,
    exact,
    intrinsic,
    ir,
    own_code,
    serial,
    types,
)

FACTORS = (1.0, 1.0, BACK, BACK)  # of a format's sums


class Finish(NamedTuple):
    """Operands of `finish`: addresses, and bytes from one row to the next."""

    rows: int
    to: int  # rows of 32 columns of C
    row: int
    sums: int  # rows of 32
    start: int  # 32 floats, the same for each row
    old: int  # rows of 32
    old_row: int


class FinishInt8(NamedTuple):
    """Operands of `finish_int8`: addresses, and bytes from one row to the next."""

    rows: int
    to: int
    row: int
    sums: int
    s: int  # of each row
    zero: int
    t: int  # of each column
    sums_of_w: int
    bias: int


def emit_finish(builder, args, factor):
    """rows of C = (sums·factor + start) + old, with one rounding for each of the two additions.

    args: the fields of Finish, LLVM values, as factor is.
    """
    rows, to, row, sums, start, old, old_row = args
    fma = ir.FunctionType(FLOATS, [FLOATS] * 3)
    fma = cgutils.get_or_insert_function(builder.module, fma, f"llvm.fma.v{LANES}f32")
    factor = _lanes(builder, factor, FLOATS)
    starts = [_load(builder, start, FLOATS, I64(half)) for half in (0, ROW)]

    def line(_, here):
        to, sums, old = here
        for half, first in zip((0, ROW), starts, strict=True):
            total = builder.call(fma, [_load(builder, sums, FLOATS, I64(half)), factor, first])
            total = builder.fadd(total, _load(builder, old, FLOATS, I64(half)))
            _store(builder, total, builder.add(to, I64(half)))

    loop(builder, rows, [(to, row), (sums, I64(4 * SIDE)), (old, old_row)], line)


def emit_finish_int8(builder, args):
    """rows of C = (s·t)·(sums + zero·sums of w) + bias, in this order.

    args: the fields of FinishInt8, LLVM values.
    """
    rows, to, row, sums, s, zero, t, sums_of_w, bias = args
    fixed = [
        [_load(builder, x, kind, I64(half)) for half in (0, ROW)]
        for kind, x in ((FLOATS, t), (WORDS, sums_of_w), (FLOATS, bias))
    ]

    def line(_, here):
        to, sums, s, zero = here
        of_row = _everywhere(builder, s, FLOATS, LANES)
        shift = _everywhere(builder, zero, WORDS, LANES)
        for half, t_, w, b in zip((0, ROW), *fixed, strict=True):
            total = builder.add(_load(builder, sums, WORDS, I64(half)), builder.mul(shift, w))
            y = builder.fmul(builder.sitofp(total, FLOATS), builder.fmul(of_row, t_))
            _store(builder, builder.fadd(y, b), builder.add(to, I64(half)))

    lines = [(to, row), (sums, I64(4 * SIDE)), (s, I64(4)), (zero, I64(4))]
    loop(builder, rows, lines, line)


def _lanes(builder, value, kind):
    """A value in every lane of a vector."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(WORDS, [0] * LANES))


@intrinsic
def finish(typingctx, operands, factor):
    """Finish, and the float32 factor: `emit_finish`."""

    def codegen(context, builder, sig, args):
        emit_finish(builder, _fields(context, builder, sig, args), args[1])
        return context.get_dummy_value()

    return types.void(operands, types.float32), codegen


@intrinsic
def finish_int8(typingctx, operands):
    """FinishInt8: `emit_finish_int8`."""

    def codegen(context, builder, sig, args):
        emit_finish_int8(builder, _fields(context, builder, sig, args))
        return context.get_dummy_value()

    return types.void(operands), codegen


@intrinsic
def expect(typingctx, rows, to, row):
    """Fetches rows of 32 floats that are written later, so that no store waits for memory."""

    def codegen(context, builder, sig, args):
        rows, to, row = args

        def line(_, here):
            for half in (0, ROW):
                prefetch(builder, builder.add(here[0], I64(half)), 1, 3)

        loop(builder, rows, [(to, row)], line)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


# ------------------------------------------------------- Numba: rows of a block


class Sums(NamedTuple):
    """A block of sums."""

    i: int  # its place, in blocks of C
    j: int
    at: int  # their address, 32 rows of 32
    more: bool  # C holds a part of its sum
    last: bool  # nothing follows


class Destination(NamedTuple):
    """C, and what its sums go through. Addresses and no arrays: a call with an array counts its
    references, and the processor starts no load before an atomic count is done."""

    kind: int
    M: int
    N: int
    c: int  # (M,N)
    g: int  # (M,N) gelu(c)
    g_panels: int  # panels that take gelu(c) instead, or 0
    add: bool
    form: int
    start: int  # (32·⌈N/32⌉ + 32,) the bias, then zeros
    s: int  # these four for INT8, as in `amx_matmul.py`
    zero: int
    scale: int
    sums: int
    beside: int  # 32 × 32 floats: what C holds at an edge
    spare: int


@exact()
def finish_rows(block, first, count, place):
    """Sums of `count` rows from row `first` on -> C, of which the rows that exist."""
    own_code()
    m, n = min(SIDE, place.M - block.i * SIDE), min(SIDE, place.N - block.j * SIDE)
    rows, row, line = min(count, m - first), 4 * place.N, block.i * SIDE + first
    if rows <= 0:
        return
    sums, column = block.at + 4 * SIDE * first, 4 * SIDE * block.j
    start, zeros = place.start + column, place.start + 4 * SIDE * up(place.N, SIDE)
    c, g = place.c + row * line + column, place.g + row * line + column
    activated = block.last and place.form != NO_GELU
    inside = n == SIDE and not activated
    to, to_row = (c, row) if inside else (sums, 4 * SIDE)
    if place.kind == INT8:
        s, zero = place.s + 4 * line, place.zero + 4 * line
        t, of_w = place.scale + column, place.sums + column
        finish_int8(FinishInt8(rows, to, to_row, sums, s, zero, t, of_w, start))
    else:
        old, old_row = zeros, 0
        if block.more or place.add:
            old, old_row = c, row
            if n < SIDE:
                old, old_row = place.beside, 4 * SIDE
                _copy(rows, n, old, old_row, c, row)
        begin = zeros if block.more else start
        factor = np.float32(FACTORS[place.kind])
        finish(Finish(rows, to, to_row, sums, begin, old, old_row), factor)
    if not inside and (not activated or g != c):
        _copy(rows, n, c, row, sums, 4 * SIDE)
    if activated:
        _activate(sums, rows * SIDE, place.form)
        if not place.g_panels:
            _copy(rows, n, g, row, sums, 4 * SIDE)
        elif first + rows == m:
            whole = Lines(block.at, 4 * SIDE, 4, m, n)
            to, seen = step_of(block.i, block.j, place), place.spare + SPARE
            pack_step(BF16, False, whole, to, seen, place.spare)


@exact()
def expect_rows(block, first, count, place):
    """Fetches the lines that rows of a block will be stored to."""
    at, row = step_of(block.i, block.j, place), 2 * ROW
    rows = min(count, LANES - first)
    if not place.g_panels:
        line, row = block.i * SIDE + first, 4 * place.N
        rows, at = min(count, place.M - line), place.g + row * line + 4 * SIDE * block.j
    else:
        at += first * row
    if rows > 0:
        expect(rows, at, row)


@exact()
def step_of(i, j, place):
    """Where the panels for gelu(C) hold block (i,j): step j of panel i."""
    return place.g_panels + (i * up(place.N, SIDE) + j) * 2 * TILE


@exact()
def _copy(rows, n, to, to_row, source, row):
    """Rows of n floats, at most 32, from one address to another."""
    for p in range(rows):
        if n == SIDE:
            copy_row(to + p * to_row, source + p * row)
            copy_row(to + p * to_row + ROW, source + p * row + ROW)
        else:
            for q in range(n):
                put(to + p * to_row + 4 * q, get(source + p * row + 4 * q))


@serial
def _activate(at, count, form):
    """gelu in place, of floats at an address."""
    own_code()
    x = carray(floats_at(at), count)
    if form == ERF:
        for o in range(len(x)):
            x[o] = gelu_erf(x[o])
    elif form == SHORT:
        for o in range(len(x)):
            x[o] = gelu_erf_short(x[o])
    else:
        for o in range(len(x)):
            x[o] = gelu_tanh(x[o])


@intrinsic
def floats_at(typingctx, address):
    """A pointer to float32 numbers."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], F32.as_pointer())

    return types.CPointer(types.float32)(types.int64), codegen
