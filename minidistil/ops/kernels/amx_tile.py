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

from minidistil.ops.kernels.register_tile import F32, I8, I32, I64, _fields
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


class PassSteps(NamedTuple):
    """Operands of `advance`: some steps of one pass over two panels, which are addresses."""

    kind: int
    rows: int
    turn: int  # number of the pass
    steps: int
    first: int  # steps before these
    a: int
    b: int
    unread: int


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


def emit_pass(builder, args, kind, products, down):
    """The products of one pass over some steps, added to `down` × 2 tiles of C.

    args: the fields of PassSteps from steps on, LLVM values.
    """
    steps, first, a, b, unread = args
    form, cells = FORMATS[kind], [(i, j) for i in range(down) for j in (0, 1)]
    stride = I64(2 * TILE * form.parts)

    def step(k, here):
        loaded = None, None
        for parts in products:
            fresh, loaded = [new != old for new, old in zip(parts, loaded, strict=True)], parts
            for i, j in cells:
                for is_fresh, registers, part, index, address, once in (
                    (fresh[0], A, parts[0], i, here[0], j == 0),
                    (fresh[1], B, parts[1], j, here[1], i == 0),
                ):
                    if is_fresh and once:
                        at = builder.add(address, I64(TILE * (2 * part + index)))
                        _move(builder, "tileloadd64", registers[index], at, I64(ROW))
                _call(builder, form.dot, I8(C[2 * i + j]), I8(A[i]), I8(B[j]))
        # The first tile store after some 600 ns holds up the core for 270 ns, as if its unit had
        # to wake up. A store now and then, to where nothing reads, keeps it awake.
        turn = builder.and_(builder.add(first, k), I64(AWAKE - 1))
        with builder.if_then(builder.icmp_signed("==", turn, I64(0))):
            _move(builder, "tilestored64", A[0], unread, I64(0))

    loop(builder, steps, [(a, stride), (b, stride)], step)


def emit_clear(builder, down):
    """Zeros in `down` × 2 tiles of C."""
    for register in C[: 2 * down]:
        _call(builder, "tilezero", I8(register))


def emit_store(builder, to, row, down):
    """`down` × 2 tiles of C to rows of sums."""
    for i in range(down):
        for j in (0, 1):
            at = builder.add(to, builder.add(builder.mul(row, I64(i * LANES)), I64(j * ROW)))
            _move(builder, "tilestored64", C[2 * i + j], at, row)


def emit_block(builder, args, kind, down):
    """`down` × 2 tiles of C = A panel · B panel, from zero, to rows of sums.

    args: the fields of Block from steps on, LLVM values.
    """
    steps, a, b, to, row, unread = args
    emit_clear(builder, down)
    for products in FORMATS[kind].passes:
        emit_pass(builder, (steps, I64(0), a, b, unread), kind, products, down)
    emit_store(builder, to, row, down)


def _choose(builder, case, emitters):
    """Runs the emitter with the number `case`, which is known at run time."""
    done = builder.append_basic_block("chosen")
    choice = builder.switch(case, done)
    for number, emit in emitters.items():
        here = builder.append_basic_block("case")
        choice.add_case(I64(number), here)
        builder.position_at_end(here)
        emit()
        builder.branch(done)
    builder.position_at_end(done)


def _two(builder, rows):
    """1 where so many rows need two tiles, else 0."""
    return builder.zext(builder.icmp_signed(">", rows, I64(LANES)), I64)


@intrinsic
def block(typingctx, operands):
    """Multiplies two panels; format and number of rows, 1 to 32, are chosen at run time."""

    def codegen(context, builder, sig, args):
        kind, rows, *rest = _fields(context, builder, sig, args)
        emitters = {
            2 * which + down - 1: functools.partial(emit_block, builder, rest, which, down)
            for which in range(len(FORMATS)) for down in (1, 2)
        }  # fmt: skip
        case = builder.add(builder.mul(kind, I64(2)), _two(builder, rows))
        _choose(builder, case, emitters)
        return context.get_dummy_value()

    return types.void(operands), codegen


@intrinsic
def clear(typingctx):
    """`emit_clear`, of all: a block begins."""

    def codegen(context, builder, sig, args):
        emit_clear(builder, 2)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def advance(typingctx, operands):
    """PassSteps: some steps of a pass over two panels, whose sums stay in the registers."""

    def codegen(context, builder, sig, args):
        kind, rows, turn, *rest = _fields(context, builder, sig, args)
        emitters = {
            4 * which + 2 * number + down - 1: functools.partial(
                emit_pass, builder, rest, which, products, down
            )
            for which, form in enumerate(FORMATS)
            for number, products in enumerate(form.passes)
            for down in (1, 2)
        }
        case = builder.add(builder.mul(kind, I64(2)), turn)
        _choose(builder, builder.add(builder.mul(case, I64(2)), _two(builder, rows)), emitters)
        return context.get_dummy_value()

    return types.void(operands), codegen


@intrinsic
def store(typingctx, rows, to, row):
    """`emit_store`: the sums of a block of 1 to 32 rows, `row` bytes apart."""

    def codegen(context, builder, sig, args):
        rows, to, row = args
        emitters = {down - 1: functools.partial(emit_store, builder, to, row, down)
                    for down in (1, 2)}  # fmt: skip
        _choose(builder, _two(builder, rows), emitters)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


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


def prefetch(builder, address, write, level):
    """Fetches a line; level: 3 for the first-level cache, 2 for the second."""
    fetch = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    fetch = cgutils.get_or_insert_function(builder.module, fetch, "llvm.prefetch")
    at = builder.inttoptr(address, I8.as_pointer())
    builder.call(fetch, [at, I32(write), I32(level), I32(1)])


@intrinsic
def fetch_lines(typingctx, lines, address):
    """Fetches lines, one at least, that are read later into the second-level cache."""

    def codegen(context, builder, sig, args):
        lines, address = args
        line = [(address, I64(ROW))]
        loop(builder, lines, line, lambda _, here: prefetch(builder, here[0], 0, 2))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def fetch_line(typingctx, address):
    """Fetches a line that is read later into the second-level cache."""

    def codegen(context, builder, sig, args):
        prefetch(builder, args[0], 0, 2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
