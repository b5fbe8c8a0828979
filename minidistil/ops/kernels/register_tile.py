"""What a matrix product keeps in registers: the tile, and the moves that feed it, as LLVM code.

A loop that Numba compiles loads and stores the entries it sums at every step. The loop of `tile`
must not, so it is written as LLVM instructions, one vector instruction for each of its products;
so are the moves of whole vectors that pack its panels. The code is the same for every processor:
only the shape of the tile and the length of a vector differ, and LLVM picks the instructions.

Addresses are int64 and count bytes; no alignment is assumed. `matmul.py` draws the panels and says
why a tile has the shape it has.
"""

from minidistil.ops.runtime.cpu import FEATURES, cgutils, intrinsic, ir, types


def tile_shape(features):
    """What the processor has  ->  rows and columns of a tile, and floats in a vector."""
    if "+avx512f" in features:
        return 12, 32, 16
    if "+avx2" in features:
        return 6, 16, 8
    if "+neon" in features:
        return 12, 8, 4
    return 4, 8, 4


# Frozen into the compiled kernels: safe in a cache that several machines share, because the cache
# keys on these very features.
MR, NR, LANES = tile_shape(FEATURES)

F32, I8, I32, I64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
ZERO = I64(0)


def _load(builder, address, typ, offset=ZERO):
    pointer = builder.inttoptr(builder.add(address, offset), typ.as_pointer())
    return builder.load(pointer, align=1)


def _store(builder, value, address):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _prefetch(builder, address, to_write, nearness):
    """Ask for NR floats ahead of their use, into the first cache (nearness 3) or the second (2)."""
    prefetch = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    prefetch = cgutils.get_or_insert_function(builder.module, prefetch, "llvm.prefetch")
    for byte in range(0, 4 * NR, 64):  # a cache line each
        near = builder.inttoptr(builder.add(address, I64(byte)), I8.as_pointer())
        builder.call(prefetch, [near, I32(int(to_write)), I32(nearness), I32(1)])


def _shuffle(builder, v, w, lanes):
    return builder.shuffle_vector(v, w, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


@intrinsic
def tile(typingctx, steps, a, b, c, row, add, start):
    """Tile at c (row bytes from one line to the next) = or, if add, += start + A panel · B panel.

    start: the address of NR floats, the same for every row of the tile: a bias, or zeros.
    """

    def codegen(context, builder, sig, args):
        steps, a, b, c, row, add, start = args
        _multiply(builder, steps, a, I64(4), I64(4 * MR), b, I64(4 * NR), c, row, add, start)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@intrinsic
def strided_tile(typingctx, steps, a, a_row, a_step, b, b_step, c, row, add):
    """The same where nothing is packed: A's rows and steps lie a_row and a_step bytes apart, and
    B has NR floats every b_step bytes."""

    def codegen(context, builder, sig, args):
        _multiply(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), codegen


def _multiply(builder, steps, a, a_row, a_step, b, b_step, c, row, add, start=None):
    """The loop over k, with a vector register for each vector of the tile."""
    vector = ir.VectorType(F32, LANES)
    cells = [(i, j) for i in range(MR) for j in range(NR // LANES)]
    fma = ir.FunctionType(vector, [vector] * 3)  # fused where the processor has it
    fma = cgutils.get_or_insert_function(builder.module, fma, f"llvm.fmuladd.v{LANES}f32")
    rows = [builder.mul(a_row, I64(i)) for i in range(MR)]
    lines = [builder.add(c, builder.mul(row, I64(i))) for i in range(MR)]
    for line in lines:  # the tile's place in memory comes nearer while it is computed
        _prefetch(builder, line, to_write=True, nearness=3)
    offsets = [I64(4 * LANES * j) for j in range(NR // LANES)]
    first_row = [ir.Constant(vector, None)] * len(offsets)  # zeros
    if start is not None:
        first_row = [_load(builder, start, vector, offset) for offset in offsets]
    panel = builder.mul(steps, b_step)  # bytes
    entry_block = builder.block
    loop, done = builder.append_basic_block("step"), builder.append_basic_block("done")
    builder.branch(loop)

    builder.position_at_end(loop)
    k, a_at, b_at = (builder.phi(I64) for _ in range(3))
    acc = {cell: builder.phi(vector) for cell in cells}
    b_row = [_load(builder, b_at, vector, offset) for offset in offsets]
    if start is not None:  # of packed panels the next one follows, and few rows wait for memory
        _prefetch(builder, builder.add(b_at, panel), to_write=False, nearness=2)
    new = {}
    for i in range(MR):
        entry = _load(builder, a_at, F32, rows[i])
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), entry, I32(0))
        one = _shuffle(builder, one, one, [0] * LANES)  # the same entry in every lane
        for j, b_vector in enumerate(b_row):
            new[i, j] = builder.call(fma, [one, b_vector, acc[i, j]])
    next_k = builder.add(k, I64(1))
    state = [(acc[i, j], first_row[j], new[i, j]) for i, j in cells]
    state.append((k, ZERO, next_k))
    state.append((a_at, a, builder.add(a_at, a_step)))
    state.append((b_at, b, builder.add(b_at, b_step)))
    for phi, first, later in state:
        phi.add_incoming(first, entry_block)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, steps), loop, done)

    def write(adding):
        for i, j in cells:
            at, total = builder.add(lines[i], offsets[j]), new[i, j]
            if adding:
                total = builder.fadd(_load(builder, at, vector), total)
            _store(builder, total, at)

    builder.position_at_end(done)
    with builder.if_else(builder.icmp_signed("!=", add, ZERO)) as (then, otherwise):
        with then:
            write(adding=True)
        with otherwise:
            write(adding=False)


@intrinsic
def get(typingctx, source):
    """The float at an address."""

    def codegen(context, builder, sig, args):
        return _load(builder, args[0], F32)

    return types.float32(types.int64), codegen


@intrinsic
def put(typingctx, to, value):
    """One float to an address."""

    def codegen(context, builder, sig, args):
        _store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), codegen


@intrinsic(prefer_literal=True)
def copy(typingctx, to, source, width):
    """One step of a panel whose lines are neighbours in memory."""
    vector = ir.VectorType(F32, width.literal_value)

    def codegen(context, builder, sig, args):
        _store(builder, _load(builder, args[1], vector), args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, width), codegen


@intrinsic(prefer_literal=True)
def transpose(typingctx, to, source, row, width):
    """Four steps of a panel whose lines are `row` bytes apart: blocks of 4 × 4.

    The last block overlaps its neighbour where the width is no multiple of 4.
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
