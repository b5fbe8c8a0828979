"""Intel's Advanced Matrix Extensions (AMX): eight tile registers, and their multiplications.

A tile register holds 16 rows of 64 bytes, 1 KB. A product reads tiles A and B and adds to tile C:

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

    tdpbf16ps   words of 2 bfloat16             32 channels    1,024 operations a cycle
    tdpbusd     words of 4 (uint8 × int8)       64 channels    2,048 operations a cycle

(A multiply-add is two operations; AVX-512 computes 64 a cycle in float32.)

The kernel computes 2 × 2 tiles of C, for this reason. A product takes 16 cycles. Its two loads take
8 cycles each from the first-level cache, and longer from the second: at least as long in all. With
m tiles of A and n tiles of B, m + n loads serve m·n products. 2 × 2 uses all eight registers and
needs one load for each product:

    ┌────┬────┬────┐
    │    │ B0 │ B1 │      registers 0 – 3   C, row by row
    ├────┼────┼────┤                4, 5   A0, A1
    │ A0 │ C0 │ C1 │                6, 7   B0, B1
    │ A1 │ C2 │ C3 │
    └────┴────┴────┘      (2 × 2: 4 loads; 1 × 4: 5 loads; 3 × 2 needs 11 registers.)

If a block has at most 16 rows, only C0 and C1 are computed.

In memory a *panel* holds 32 rows of A, or 32 columns of B, with all their channels. A *step* is the
32 (int8: 64) channels that a tile holds. A panel stores step after step; a step stores two tiles
for each part of its numbers:

    panel:  step 0: part 0: tile 0, tile 1 │ part 1: tile 0, tile 1 │ …  ║ step 1: part 0: …

HIGHEST and HIGH compute a float32 product from bfloat16 ones: each number is a sum of parts. The
24 bits of a float32 are 8 + 8 + 8, so x = x₀ + x₁ + x₂ exactly, and

    x·w = x₀w₀ + (x₁w₀ + x₀w₁) + (x₂w₀ + x₁w₁ + x₀w₂) + …

HIGHEST leaves out the rest, which is below 2⁻²⁴·|x·w|. A first pass over all steps adds the small
products, while the sum is small; a second pass adds x₀w₀. HIGH has two parts and three products,
and its error is up to 2⁻¹⁶·|x·w|.

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
    """One way to compute the product."""

    dot: str  # the instruction's name in LLVM
    channels: int  # in a step
    parts: int  # into which each number is split
    passes: tuple  # over the steps: pairs (part of A, part of B); neighbours share a loaded tile


class Block(NamedTuple):
    """Operands of `block`: addresses of two panels, of 32 rows of sums, of a scratch line."""

    kind: int
    rows: int
    steps: int
    a: int
    b: int
    to: int
    row: int  # bytes from one row of sums to the next
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
LANES = 16  # rows and columns of a tile of C, 32-bit lanes of a vector
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
    """`down` × 2 tiles of C = A panel · B panel, from zero, to rows of sums.

    args: the fields of Block from steps on, LLVM values.
    """
    steps, a, b, to, row, unread = args
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
        at = builder.add(to, builder.add(builder.mul(row, I64(i * LANES)), I64(j * ROW)))
        _move(builder, "tilestored64", C[2 * i + j], at, row)


@intrinsic
def block(typingctx, operands):
    """Multiplies two panels; format and number of rows, 1 to 32, are chosen at run time."""

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
    """Releases the tile registers: a context switch then saves 8 KB less."""

    def codegen(context, builder, sig, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


def _prefetch(builder, address, write, level):
    """Fetches a line; level: 3 for the first-level cache, 2 for the second."""
    fetch = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    fetch = cgutils.get_or_insert_function(builder.module, fetch, "llvm.prefetch")
    at = builder.inttoptr(address, I8.as_pointer())
    builder.call(fetch, [at, I32(write), I32(level), I32(1)])


@intrinsic
def expect(typingctx, rows, to, row):
    """Fetches rows of 32 floats that are written later, so that no store waits for memory."""

    def codegen(context, builder, sig, args):
        rows, to, row = args

        def line(_, here):
            for half in (0, ROW):
                _prefetch(builder, builder.add(here[0], I64(half)), 1, 3)

        loop(builder, rows, [(to, row)], line)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def fetch_line(typingctx, address):
    """Fetches a line that is read later into the second-level cache."""

    def codegen(context, builder, sig, args):
        _prefetch(builder, args[0], 0, 2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


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
