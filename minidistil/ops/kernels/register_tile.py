"""The register tile of a matrix product, and the vector moves that pack its panels, in LLVM IR.

A loop that Numba compiles loads and stores its sums at every step. `tile` must keep them in
registers, so its loop is written as LLVM instructions, one vector instruction for each vector of
products. The moves that pack panels are written in the same way. The IR is the same for every
processor: only the shape of the tile and the length of a vector differ, and LLVM selects the
machine's instructions.

Addresses are int64 and count bytes. No alignment is assumed. `matmul.py` draws the panels and
derives the shape of the tile.
"""

from typing import NamedTuple

from minidistil.ops.runtime.cpu import FEATURES, cgutils, intrinsic, ir, types


def tile_shape(features):
    """The processor's features  ->  rows and columns of a tile, and floats in a vector."""
    if "+avx512f" in features:
        return 12, 32, 16
    if "+avx2" in features:
        return 6, 16, 8
    if "+neon" in features:
        return 12, 8, 4
    return 4, 8, 4


def tile_heights(rows):
    """Rows of a tile  ->  how many of them a loop may compute: thirds, so that a remainder of a few
    rows does not take the time of a whole tile."""
    return -(-rows // 3), -(-2 * rows // 3), rows


# Constants of the compiled kernels. A cache that several machines share stays correct, because its
# key contains these features.
MR, NR, LANES = tile_shape(FEATURES)
FEW, SOME, _ = tile_heights(MR)

F32, I8, I32, I64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
ZERO = I64(0)


class PackedTile(NamedTuple):
    """Operands of `tile`: addresses, and bytes from one row of C to the next."""

    steps: int
    a: int  # panel (steps,MR)
    b: int  # panel (steps,NR)
    c: int  # (MR,NR)
    row: int
    add: int  # 0: the tile is written; otherwise it is added to
    start: int  # NR floats that every row of the tile starts from: a bias, or zeros
    ahead: int  # what to prefetch, a part of the panel of B that is read after this one
    ahead_step: int  # bytes of it a step


class StridedTile(NamedTuple):
    """Operands of `strided_tile`: addresses, and strides in bytes."""

    steps: int
    a: int  # (MR,steps), one float every a_row and a_step bytes
    a_row: int
    a_step: int
    b: int  # (steps,NR), NR neighbours every b_step bytes
    b_step: int
    c: int  # (MR,NR)
    row: int
    add: int


def _fields(context, builder, sig, args):
    """The fields of an intrinsic's only argument, a NamedTuple of integers, as int64."""
    values = zip(cgutils.unpack_tuple(builder, args[0]), sig.args[0].types, strict=True)
    return [context.cast(builder, value, kind, types.int64) for value, kind in values]


def _load(builder, address, typ, offset=ZERO):
    pointer = builder.inttoptr(builder.add(address, offset), typ.as_pointer())
    return builder.load(pointer, align=1)


def _store(builder, value, address):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _prefetch(builder, address, to_write, nearness):
    """Prefetches NR floats into the first-level cache (nearness 3) or the second-level one (2)."""
    prefetch = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    prefetch = cgutils.get_or_insert_function(builder.module, prefetch, "llvm.prefetch")
    for byte in range(0, 4 * NR, 64):  # a cache line each
        near = builder.inttoptr(builder.add(address, I64(byte)), I8.as_pointer())
        builder.call(prefetch, [near, I32(int(to_write)), I32(nearness), I32(1)])


def _shuffle(builder, v, w, lanes):
    return builder.shuffle_vector(v, w, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


@intrinsic(prefer_literal=True)
def tile(typingctx, operands, rows):
    """PackedTile: C tile = or, if add, += start + A panel · B panel, in its first `rows` rows."""
    height = rows.literal_value

    def codegen(context, builder, sig, args):
        p = PackedTile(*_fields(context, builder, sig, args))
        strided = StridedTile(
            p.steps, p.a, I64(4), I64(4 * MR), p.b, I64(4 * NR), p.c, p.row, p.add
        )
        _multiply(builder, strided, height, p)
        return context.get_dummy_value()

    return types.void(operands, rows), codegen


@intrinsic
def strided_tile(typingctx, operands):
    """StridedTile: C tile = or, if add, += A · B, where neither factor is packed."""

    def codegen(context, builder, sig, args):
        _multiply(builder, StridedTile(*_fields(context, builder, sig, args)), MR)
        return context.get_dummy_value()

    return types.void(operands), codegen


def _multiply(builder, at, height, packed=None):
    """The loop over k, with a vector register for each vector of the tile's first `height` rows.

    at: StridedTile of LLVM values. packed: the PackedTile, which says where the sums start (else
    from zero) and what to prefetch."""
    vector = ir.VectorType(F32, LANES)
    cells = [(i, j) for i in range(height) for j in range(NR // LANES)]
    fma = ir.FunctionType(vector, [vector] * 3)  # fused where the processor has it
    fma = cgutils.get_or_insert_function(builder.module, fma, f"llvm.fmuladd.v{LANES}f32")
    rows = [builder.mul(at.a_row, I64(i)) for i in range(height)]
    lines = [builder.add(at.c, builder.mul(at.row, I64(i))) for i in range(height)]
    for line in lines:  # C is fetched while the tile is computed
        _prefetch(builder, line, to_write=True, nearness=3)
    offsets = [I64(4 * LANES * j) for j in range(NR // LANES)]
    first_row = [ir.Constant(vector, None)] * len(offsets)  # zeros
    if packed:
        first_row = [_load(builder, packed.start, vector, offset) for offset in offsets]
    entry_block = builder.block
    loop, done = builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(loop)

    builder.position_at_end(loop)
    k, a_at, b_at, ahead = (builder.phi(I64) for _ in range(4))
    acc = {cell: builder.phi(vector) for cell in cells}
    b_row = [_load(builder, b_at, vector, offset) for offset in offsets]
    if packed:  # few rows would otherwise wait for the following panel
        _prefetch(builder, ahead, to_write=False, nearness=2)
    new = {}
    for i in range(height):
        entry = _load(builder, a_at, F32, rows[i])
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), entry, I32(0))
        one = _shuffle(builder, one, one, [0] * LANES)  # the same entry in every lane
        for j, b_vector in enumerate(b_row):
            new[i, j] = builder.call(fma, [one, b_vector, acc[i, j]])
    next_k = builder.add(k, I64(1))
    state = [(acc[i, j], first_row[j], new[i, j]) for i, j in cells]
    state.append((k, ZERO, next_k))
    state.append((a_at, at.a, builder.add(a_at, at.a_step)))
    state.append((b_at, at.b, builder.add(b_at, at.b_step)))
    first, step = (packed.ahead, packed.ahead_step) if packed else (ZERO, ZERO)
    state.append((ahead, first, builder.add(ahead, step)))
    for phi, first, later in state:
        phi.add_incoming(first, entry_block)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, at.steps), loop, done)

    def write(adding):
        for i, j in cells:
            cell, total = builder.add(lines[i], offsets[j]), new[i, j]
            if adding:
                total = builder.fadd(_load(builder, cell, vector), total)
            _store(builder, total, cell)

    builder.position_at_end(done)
    with builder.if_else(builder.icmp_signed("!=", at.add, ZERO)) as (then, otherwise):
        with then:
            write(adding=True)
        with otherwise:
            write(adding=False)


@intrinsic
def get(typingctx, source):
    """Loads the float at an address."""

    def codegen(context, builder, sig, args):
        return _load(builder, args[0], F32)

    return types.float32(types.int64), codegen


@intrinsic
def put(typingctx, to, value):
    """Stores a float at an address."""

    def codegen(context, builder, sig, args):
        _store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), codegen


@intrinsic(prefer_literal=True)
def copy(typingctx, to, source, width):
    """Copies one step of a panel whose lines are neighbours in memory: `width` floats."""
    vector = ir.VectorType(F32, width.literal_value)

    def codegen(context, builder, sig, args):
        _store(builder, _load(builder, args[1], vector), args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, width), codegen


@intrinsic(prefer_literal=True)
def transpose(typingctx, to, source, row, width):
    """Copies four steps of a panel whose lines are `row` bytes apart, in blocks of 4 × 4.

    The last block overlaps its neighbour where `width` is not a multiple of 4.
    """
    lines = width.literal_value

    def codegen(context, builder, sig, args):
        to, source, row, _ = args
        four = ir.VectorType(F32, 4)
        for first in [min(i, lines - 4) for i in range(0, lines, 4)]:
            v = [_load(builder, source, four, builder.mul(row, I64(first + i))) for i in range(4)]
            p, q = (_shuffle(builder, v[0], v[1], half) for half in ([0, 4, 1, 5], [2, 6, 3, 7]))
            r, s = (_shuffle(builder, v[2], v[3], half) for half in ([0, 4, 1, 5], [2, 6, 3, 7]))
            for k, x, y, half in ((0, p, r, [0, 1, 4, 5]), (1, p, r, [2, 3, 6, 7]),
                                  (2, q, s, [0, 1, 4, 5]), (3, q, s, [2, 3, 6, 7])):  # fmt: skip
                step = builder.add(to, I64(4 * (k * lines + first)))
                _store(builder, _shuffle(builder, x, y, half), step)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, width), codegen
