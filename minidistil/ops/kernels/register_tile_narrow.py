"""Register tiles of the narrow formats: as in `register_tile.py`, with several channels a word.

A word is 4 bytes: two bfloat16 numbers, or two or four whole ones. One step of a panel of A is a
word for each of MR rows, one of B the same channels for each of NR columns. An instruction
multiplies them pair by pair and adds each word's products in its 32-bit lane:

                        A's word            B's word            instruction
    int8                2 × int16           2 × int8, widened   pmaddwd (AVX2, AVX-512BW, SSE2)
                        4 × uint8           4 × int8            vpdpbusd (VNNI)
                        4 × int8            4 × int8            sdot (Arm's dot product)
    bfloat16            2 × bfloat16        2 × bfloat16        vdpbf16ps (AVX512-BF16)
                        2 × float32         2 × bfloat16        shift or mask, then multiply-add

All of these add whole numbers exactly. pmaddwd takes the q of x unchanged. The others have 8 bits
for them, so a row is shifted until its smallest number is the smallest of the type: q − zero; the
sum Σ(q − zero)·w then starts from zero·Σw.
A bfloat16 is the upper half of a float32, so any processor widens it by moving bits: this saves no
multiplication, but half the bytes of the weights. vdpbf16ps takes denormal numbers for zero and
rounds in an order of its own. The other instructions differ from the specification only in the
order of the sum.
"""

from typing import NamedTuple

from minidistil.ops.kernels.register_tile import (
    F32,
    I8,
    I32,
    I64,
    LANES,
    MR,
    NR,
    ZERO,
    _fields,
    _load,
    _shuffle,
    _store,
)
from minidistil.ops.runtime.cpu import FEATURES, cgutils, intrinsic, ir, types

I16 = ir.IntType(16)


class Dot(NamedTuple):
    """An instruction that multiplies words: its name in LLVM, channels in a word, type of A."""

    name: str
    depth: int
    left: str  # NumPy's type of A's entries


def int8_dot(features, lanes):
    """The processor's features, 32-bit lanes of its vectors  ->  Dot; None if it has none."""
    bits = 32 * lanes
    if f"+{'avx512vnni' if lanes == 16 else 'avxvnni'}" in features and lanes > 4:
        return Dot(f"llvm.x86.avx512.vpdpbusd.{bits}", 4, "uint8")
    if lanes == 16:
        return Dot("llvm.x86.avx512.pmaddw.d.512", 2, "int16") if "+avx512bw" in features else None
    if lanes == 8:
        return Dot("llvm.x86.avx2.pmadd.wd", 2, "int16")
    if "+dotprod" in features:
        return Dot("llvm.aarch64.neon.sdot.v4i32.v16i8", 4, "int8")
    return Dot("llvm.x86.sse2.pmadd.wd", 2, "int16") if "+sse2" in features else None


def bf16_dot(features):
    """The processor's features  ->  Dot; the one that widens if it cannot multiply bfloat16."""
    if "+avx512bf16" in features:
        return Dot("llvm.x86.avx512bf16.dpbf16ps.512", 2, "uint16")
    return Dot("llvm.fmuladd.v{lanes}f32", 1, "int32")


INT8, BF16 = int8_dot(FEATURES, LANES), bf16_dot(FEATURES)


class Int8Tile(NamedTuple):
    """Operands of `int8_tile`: addresses, and bytes from one row of C to the next."""

    steps: int
    a: int  # panel: steps of MR words
    b: int  # panel: steps of NR words
    c: int  # (MR,NR) float32
    row: int
    s: int  # MR floats: scales of the rows
    zero: int  # MR int32, read if x has 8 bits
    t: int  # NR floats: scales of the columns
    sums: int  # NR int32: Σw of the columns
    bias: int  # NR floats


class Bf16Tile(NamedTuple):
    """Operands of `bf16_tile`: addresses, and bytes from one row of C to the next."""

    steps: int
    a: int  # panel: steps of MR words
    b: int  # panel: steps of NR words
    c: int  # (MR,NR) float32
    row: int
    add: int  # 0: the sum is added to bias; otherwise to C
    bias: int  # NR floats


class BFloat(ir.Type):
    """LLVM's type `bfloat`, which llvmlite lacks; LLVM needs only its name."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, BFloat)

    def __hash__(self):
        return hash("bfloat")


def _everywhere(builder, at, kind, lanes):
    """Loads the word at an address into every lane of a vector of `kind`."""
    vector = ir.VectorType(I32, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), _load(builder, at, I32), I32(0))
    return builder.bitcast(_shuffle(builder, one, one, [0] * lanes), kind)


def _column(builder, address, kind, j):
    """Loads vector j of those that begin at an address, 4 bytes a lane."""
    return _load(builder, address, kind, I64(4 * kind.count * j))


def _loop(builder, steps, at, start, body):
    """Repeats `body(addresses, totals) -> totals` `steps` times; returns the last totals.

    at: {name: (address, bytes a step)}; start: {cell: value}.
    """
    before = builder.block
    loop, done = builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(I64)
    here = {name: builder.phi(I64) for name in at}
    totals = {cell: builder.phi(value.type) for cell, value in start.items()}
    new, following = body(here, totals), builder.add(step, I64(1))
    state = [(step, ZERO, following)]
    state += [(totals[cell], start[cell], new[cell]) for cell in start]
    for name, (first, stride) in at.items():
        state.append((here[name], first, builder.add(here[name], I64(stride))))
    for phi, first, later in state:
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
    builder.position_at_end(done)
    return new


def emit_int8(builder, args, dot, shape):
    """C tile = (s·t)·(zero·sums + A panel · B panel) + bias, in this order.

    args: the fields of Int8Tile, LLVM values. shape: MR, NR, lanes. For pmaddwd, which needs no
    zero, the sum starts from 0.
    """
    at = Int8Tile(*args)
    rows, columns, lanes = shape
    whole, vector = ir.VectorType(I32, lanes), ir.VectorType(F32, lanes)
    entries = ir.VectorType(I8, lanes * dot.depth)  # of B, a word's channels side by side
    wide = ir.VectorType(I16, lanes * 2) if dot.depth == 2 else entries
    given = [wide, wide] if dot.depth == 2 else [whole, wide, wide]
    multiply = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(whole, given), dot.name
    )
    across = range(columns // lanes)

    def body(here, totals):
        new = {}
        b_row = [_load(builder, here["b"], entries, I64(lanes * dot.depth * j)) for j in across]
        if dot.depth == 2:
            b_row = [builder.sext(x, wide) for x in b_row]
        for i in range(rows):
            one = _everywhere(builder, builder.add(here["a"], I64(4 * i)), wide, lanes)
            for j in across:
                if dot.depth == 2:
                    new[i, j] = builder.add(totals[i, j], builder.call(multiply, [one, b_row[j]]))
                else:
                    new[i, j] = builder.call(multiply, [totals[i, j], one, b_row[j]])
        return new

    first = {(i, j): ir.Constant(whole, None) for i in range(rows) for j in across}
    if dot.depth == 4:
        for i, j in first:
            of_row = _everywhere(builder, builder.add(at.zero, I64(4 * i)), whole, lanes)
            first[i, j] = builder.mul(of_row, _column(builder, at.sums, whole, j))
    panels = {"a": (at.a, 4 * rows), "b": (at.b, columns * dot.depth)}
    for (i, j), total in _loop(builder, at.steps, panels, first, body).items():
        of_row = _everywhere(builder, builder.add(at.s, I64(4 * i)), vector, lanes)
        scale = builder.fmul(of_row, _column(builder, at.t, vector, j))
        y = builder.fmul(builder.sitofp(total, vector), scale)
        y = builder.fadd(y, _column(builder, at.bias, vector, j))
        line = builder.add(at.c, builder.mul(at.row, I64(i)))
        _store(builder, y, builder.add(line, I64(4 * lanes * j)))


def emit_bf16(builder, args, dot, shape):
    """C tile = A panel · B panel + bias; if add, + C tile instead.

    args: the fields of Bf16Tile, LLVM values. shape: MR, NR, lanes.
    """
    at = Bf16Tile(*args)
    rows, columns, lanes = shape
    words, vector = ir.VectorType(I32, lanes), ir.VectorType(F32, lanes)
    widens = dot.depth == 1
    factor = vector if widens else ir.VectorType(BFloat(), 2 * lanes)
    given = [factor, factor, vector] if widens else [vector, factor, factor]
    multiply = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, given), dot.name.format(lanes=lanes)
    )
    across = range(columns // lanes)

    def half_of(x, half):
        """The first or the second bfloat16 of each word as a float32."""
        if half == 0:
            return builder.shl(x, ir.Constant(words, [16] * lanes))
        return builder.and_(x, ir.Constant(words, [-(1 << 16)] * lanes))

    def body(here, totals):
        new = dict(totals)
        for half in range(2 // dot.depth):
            b_row = [_column(builder, here["b"], words, j) for j in across]
            if widens:
                b_row = [half_of(x, half) for x in b_row]
            b_row = [builder.bitcast(x, factor) for x in b_row]
            for i in range(rows):
                entry = builder.add(here["a"], I64(4 * (half * rows + i)))
                one = _everywhere(builder, entry, factor, lanes)
                for j in across:
                    total = [new[i, j]]
                    operands = [one, b_row[j], *total] if widens else [*total, one, b_row[j]]
                    new[i, j] = builder.call(multiply, operands)
        return new

    zeros = {(i, j): ir.Constant(vector, None) for i in range(rows) for j in across}
    panels = {"a": (at.a, 8 // dot.depth * rows), "b": (at.b, 4 * columns)}
    adding = builder.icmp_signed("!=", at.add, ZERO)
    for (i, j), total in _loop(builder, at.steps, panels, zeros, body).items():
        line = builder.add(at.c, builder.mul(at.row, I64(i)))
        other = _column(builder, builder.select(adding, line, at.bias), vector, j)
        _store(builder, builder.fadd(total, other), builder.add(line, I64(4 * lanes * j)))


@intrinsic
def int8_tile(typingctx, operands):
    """Int8Tile: `emit_int8` for this processor."""

    def codegen(context, builder, sig, args):
        emit_int8(builder, _fields(context, builder, sig, args), INT8, (MR, NR, LANES))
        return context.get_dummy_value()

    return types.void(operands), codegen


@intrinsic
def bf16_tile(typingctx, operands):
    """Bf16Tile: `emit_bf16` for this processor."""

    def codegen(context, builder, sig, args):
        emit_bf16(builder, _fields(context, builder, sig, args), BF16, (MR, NR, LANES))
        return context.get_dummy_value()

    return types.void(operands), codegen
