"""Tiles of AMX: eight registers that hold small matrices, and one instruction that multiplies them.

A tile register holds 16 rows of 64 bytes, 1 KB. A product takes three of them:

                            B  (16 words, 16 columns)
                          ┌────────────────────────┐
                          │ channels of word 0     │   a word is 4 bytes: 2 bfloat16 or 4 int8
                          │ channels of word 1     │   numbers of neighbouring channels, so that
                          │   …                    │   a row of B holds one word for each column
                          │ channels of word 15    │
                          └────────────────────────┘
      A  (16 rows)                   ×
     ┌────────────────────┐┌────────────────────────┐
     │ row 0: 16 words    ││                        │
     │ row 1: 16 words    ││  C += A·B   16 × 16    │   float32 or int32
     │   …                ││                        │
     └────────────────────┘└────────────────────────┘

    tdpbf16ps   words of 2 bfloat16, 32 channels     16·16·32 multiply-adds in 16 cycles: 1,024
    tdpbusd     words of 4 (uint8 × int8), 64        operations a cycle, int8 twice as many
                                                     (AVX-512 in float32: 64)

Why 2 × 2. One product alone loads two tiles, and a load takes 8 cycles from the first-level cache
and longer from the second: loading would take as long as multiplying, or longer. With m tiles of A
and n of B the same m + n loads serve m·n products. All eight registers are in use at 2 × 2, which
computes 32 × 32 entries of C with one load a product:

    ┌────┬────┬────┐
    │    │ B0 │ B1 │      registers 0 – 3   C, in the order of reading
    ├────┼────┼────┤                4, 5   A0, A1
    │ A0 │ C0 │ C1 │                6, 7   B0, B1
    │ A1 │ C2 │ C3 │
    └────┴────┴────┘      (1 × 4 would load 5 tiles for 4 products, 3 × 2 needs 11 registers.)

With at most 16 rows left, A1, C2 and C3 are not used: 1 × 2.

In memory a panel is 32 rows of A or 32 columns of B; one step of a panel is its two tiles, one
after the other, for each part of a number:

    panel:  step 0: part 0: tile 0, tile 1 │ part 1: tile 0, tile 1 │ …  ║ step 1: part 0: …

Parts are how bfloat16 products make up a float32 one (HIGHEST, HIGH): 24 bits are 8 + 8 + 8, so
x = x₀ + x₁ + x₂ exactly, and

    x·w = x₀w₀ + (x₁w₀ + x₀w₁) + (x₂w₀ + x₁w₁ + x₀w₂) + …     the rest is below 2⁻²⁴ of x·w

Small products are summed first, while the sum is small: a pass over all steps for them, a second
for x₀w₀. HIGH stops at two parts and three products, up to 2⁻¹⁶ of x·w.

These instructions name their registers by number, so LLVM does not allocate tiles. A whole loop
over the steps is therefore one piece of LLVM code, with register numbers written out. (Intel,
"Intrinsics for AMX"; `amx_reference.py` says what the instructions compute, to the bit.)
"""

import functools
from typing import NamedTuple

from minidistil.ops.kernels.register_tile import F32, I8, I32, I64, _fields, _load, _store
from minidistil.ops.kernels.register_tile_narrow import _everywhere
from minidistil.ops.runtime.cpu import cgutils, intrinsic, ir, types


class Format(NamedTuple):
    """How numbers are multiplied."""

    dot: str  # the instruction's name in LLVM
    channels: int  # in a step
    parts: int  # bfloat16 numbers that one of A or B becomes
    passes: tuple  # over the steps: pairs (part of A, part of B), neighbours share a factor


class Block(NamedTuple):
    """Operands of `block`; addresses of two panels, of 32 rows of sums, of a line never read."""

    kind: int
    rows: int
    steps: int
    a: int
    b: int
    to: int
    unread: int


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
    """Operands of `finish_int8`, likewise."""

    rows: int
    to: int
    row: int
    sums: int
    s: int  # of each row
    zero: int
    t: int  # of each column
    sums_of_w: int
    bias: int


BF16, INT8, HIGH, HIGHEST = range(4)
FORMATS = (
    Format("tdpbf16ps", 32, 1, (((0, 0),),)),
    Format("tdpbusd", 64, 1, (((0, 0),),)),
    Format("tdpbf16ps", 32, 2, (((1, 0), (0, 1)), ((0, 0),))),
    Format("tdpbf16ps", 32, 3, (((2, 0), (1, 0), (1, 1), (0, 1), (0, 2)), ((0, 0),))),
)
SIDE = 32  # rows and columns of a block of C: two tiles each
TILE = 1024  # bytes
ROW = 64  # bytes of a tile's row, and of a cache line
LANES = 16  # columns of a tile, 32-bit lanes of the vectors that finish it
C, A, B = (0, 1, 2, 3), (4, 5), (6, 7)
AWAKE = 4  # steps, a power of two

FLOATS, WORDS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


def _call(builder, name, *args):
    """An instruction of x86 that returns nothing."""
    kind = ir.FunctionType(ir.VoidType(), [x.type for x in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


def _move(builder, name, register, address, row):
    """A tile from or to memory, `row` bytes from one of its rows to the next."""
    _call(builder, name, I8(register), builder.inttoptr(address, I8.as_pointer()), row)


def loop(builder, steps, pointers, body):
    """`body(k, addresses)` for k in range(steps), steps > 0. pointers: (address, bytes a step)."""
    before = builder.block
    again, done = builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(again)
    builder.position_at_end(again)
    k, here = builder.phi(I64), [builder.phi(I64) for _ in pointers]
    body(k, here)
    following = builder.add(k, I64(1))
    k.add_incoming(I64(0), before)
    k.add_incoming(following, builder.block)
    for phi, (first, stride) in zip(here, pointers, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(builder.add(phi, stride), builder.block)
    builder.cbranch(builder.icmp_signed("<", following, steps), again, done)
    builder.position_at_end(done)


def emit_block(builder, args, kind, down):
    """`down` × 2 tiles of C = A panel · B panel, from zero, to rows of 32 entries.

    args: the fields of Block from steps on, LLVM values.
    """
    steps, a, b, to, unread = args
    form, cells = FORMATS[kind], [(i, j) for i in range(down) for j in (0, 1)]
    stride = I64(2 * TILE * form.parts)
    for i, j in cells:
        _call(builder, "tilezero", I8(C[2 * i + j]))

    def step(products, k, here):
        loaded = None, None
        for parts in products:
            fresh, loaded = [new != old for new, old in zip(parts, loaded, strict=True)], parts
            for i, j in cells:
                for is_fresh, registers, part, index, address, first in (
                    (fresh[0], A, parts[0], i, here[0], j == 0),
                    (fresh[1], B, parts[1], j, here[1], i == 0),
                ):
                    if is_fresh and first:
                        at = builder.add(address, I64(TILE * (2 * part + index)))
                        _move(builder, "tileloadd64", registers[index], at, I64(ROW))
                _call(builder, form.dot, I8(C[2 * i + j]), I8(A[i]), I8(B[j]))
        # The first tile store after some 600 ns holds up the core for 270 ns, as if its unit had
        # to wake up. A store now and then, to where nothing reads, keeps it awake.
        due = builder.icmp_signed("==", builder.and_(k, I64(AWAKE - 1)), I64(0))
        with builder.if_then(due):
            _move(builder, "tilestored64", A[0], unread, I64(0))

    for products in form.passes:
        loop(builder, steps, [(a, stride), (b, stride)], functools.partial(step, products))
    for i, j in cells:
        at = builder.add(to, I64(i * LANES * 4 * SIDE + j * ROW))
        _move(builder, "tilestored64", C[2 * i + j], at, I64(4 * SIDE))


@intrinsic
def block(typingctx, operands):
    """Block: `emit_block` for its format, and for the rows that exist, 1 to 32."""

    def codegen(context, builder, sig, args):
        kind, rows, *rest = _fields(context, builder, sig, args)
        done = builder.append_basic_block("multiplied")
        two = builder.zext(builder.icmp_signed(">", rows, I64(LANES)), I64)
        case = builder.add(builder.mul(kind, I64(2)), two)
        choice = builder.switch(case, done)
        for index in range(2 * len(FORMATS)):
            here = builder.append_basic_block("case")
            choice.add_case(I64(index), here)
            builder.position_at_end(here)
            emit_block(builder, rest, index // 2, 1 + index % 2)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(operands), codegen


@intrinsic
def configure(typingctx, address):
    """Sets the shapes of the eight registers from the 64 bytes at an address. Takes 45 ns."""

    def codegen(context, builder, sig, args):
        _call(builder, "ldtilecfg", builder.inttoptr(args[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def release(typingctx):
    """No tiles from here on: a change of threads has 8 KB less to save."""

    def codegen(context, builder, sig, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


# ------------------------------------------------------- from a block of sums to entries of C


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
