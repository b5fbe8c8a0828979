"""Instructions that Numba lacks: 128-bit loads, asynchronous copies, tensor cores.

A place in memory is an array and an index `at` into it, counted in floats as if the array were
flat. Moves of four floats need an address that is a multiple of 16 bytes. `emulation.py` holds the
same functions in Python, for the simulator, and documents each one.
Source: the PTX ISA, version 7 (all instructions run on sm_80 and later).
"""

from minidistil.ops.runtime.cuda import instruction, ir, types

GLOBAL, SHARED = 1, 3  # address spaces: the device's memory, and a block's own
I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR, FOUR = ir.VectorType(F32, 4), ir.LiteralStructType([F32] * 4)
float4 = types.UniTuple(types.float32, 4)


def _pointer(context, builder, kind, value, at, space):
    """A pointer to x.flat[at] in a given address space."""
    x = context.make_array(kind)(context, builder, value=value)
    return builder.addrspacecast(builder.gep(x.data, [at]), F32.as_pointer(space))


def _address(context, builder, kind, value, at, space):
    """The pointer as an integer: 32 bits in shared memory, 64 elsewhere."""
    pointer = _pointer(context, builder, kind, value, at, space)
    return builder.ptrtoint(pointer, I32 if space == SHARED else I64)


def _tuple_of_four(context, builder, parts):
    return context.make_tuple(builder, float4, parts)


def _assembly(builder, result, values, text, constraints, effect=True):
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=effect), values)


# ------------------------------------------------------- 128-bit loads and stores


def _load4(space):
    @instruction("load4")
    def load(typingctx, x, at):
        def codegen(context, builder, sig, args):
            pointer = _pointer(context, builder, sig.args[0], *args, space)
            four = builder.load(builder.bitcast(pointer, VECTOR.as_pointer(space)), align=16)
            return _tuple_of_four(
                context, builder, [builder.extract_element(four, I32(i)) for i in range(4)]
            )

        return float4(x, types.int64), codegen

    return load


def _store4(space):
    @instruction("store4")
    def store(typingctx, x, at, v0, v1, v2, v3):
        def codegen(context, builder, sig, args):
            four = ir.Constant(VECTOR, ir.Undefined)
            for i in range(4):
                four = builder.insert_element(four, args[2 + i], I32(i))
            pointer = _pointer(context, builder, sig.args[0], *args[:2], space)
            builder.store(four, builder.bitcast(pointer, VECTOR.as_pointer(space)), align=16)
            return context.get_dummy_value()

        return types.void(x, types.int64, *[types.float32] * 4), codegen

    return store


load4, load4_shared = _load4(GLOBAL), _load4(SHARED)
store4, store4_shared = _store4(GLOBAL), _store4(SHARED)


# ------------------------------------------------------- asynchronous copies into shared memory


def _copy(name, text):
    @instruction(name)
    def copy(typingctx, tile, to, x, at, count):
        def codegen(context, builder, sig, args):
            target = _address(context, builder, sig.args[0], *args[:2], SHARED)
            source = _address(context, builder, sig.args[2], *args[2:4], GLOBAL)
            size = builder.trunc(builder.mul(args[4], I64(4)), I32)
            values = [target, source, size]
            _assembly(builder, ir.VoidType(), values, text, "r,l,r,~{memory}")
            return context.get_dummy_value()

        return types.void(tile, types.int64, x, types.int64, types.int64), codegen

    return copy


copy4_async = _copy("copy4_async", "cp.async.cg.shared.global [$0], [$1], 16, $2;")
copy1_async = _copy("copy1_async", "cp.async.ca.shared.global [$0], [$1], 4, $2;")


@instruction("commit_copies")
def commit_copies(typingctx):
    def codegen(context, builder, sig, args):
        _assembly(builder, ir.VoidType(), [], "cp.async.commit_group;", "~{memory}")
        return context.get_dummy_value()

    return types.void(), codegen


@instruction("wait_copies")
def wait_copies(typingctx, but):
    def codegen(context, builder, sig, args):
        text = f"cp.async.wait_group {sig.args[0].literal_value};"
        _assembly(builder, ir.VoidType(), [], text, "~{memory}")
        return context.get_dummy_value()

    # the number is part of the instruction, so it must be a constant
    return (types.void(but), codegen) if isinstance(but, types.IntegerLiteral) else None


# ------------------------------------------------------- tensor cores


@instruction("load_matrices")
def load_matrices(typingctx, tile, at):
    def codegen(context, builder, sig, args):
        source = _address(context, builder, sig.args[0], *args, SHARED)
        text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];"
        words = ir.LiteralStructType([I32] * 4)
        out = _assembly(builder, words, [source], text, "=r,=r,=r,=r,r,~{memory}")
        parts = [builder.bitcast(builder.extract_value(out, i), F32) for i in range(4)]
        return _tuple_of_four(context, builder, parts)

    return float4(tile, types.int64), codegen


@instruction("to_tf32")
def to_tf32(typingctx, x):
    def codegen(context, builder, sig, args):
        return _assembly(builder, I32, args, "cvt.rna.tf32.f32 $0, $1;", "=r,f", effect=False)

    return types.uint32(types.float32), codegen


@instruction("pack_bf16")
def pack_bf16(typingctx, low, high):
    def codegen(context, builder, sig, args):
        text = "cvt.rn.bf16x2.f32 $0, $1, $2;"
        return _assembly(builder, I32, args[::-1], text, "=r,f,f", effect=False)

    return types.uint32(types.float32, types.float32), codegen


def _mma(name, shape, number):
    text = f"mma.sync.aligned.{shape}.row.col.f32.{number}.{number}.f32"
    text += " {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)

    @instruction(name)
    def mma(typingctx, a, b, c):
        def codegen(context, builder, sig, args):
            values = [builder.extract_value(registers, i)
                      for registers, count in zip(args, (4, 2, 4), strict=True)
                      for i in range(count)]  # fmt: skip
            out = _assembly(builder, FOUR, values, text, constraints, effect=False)
            return _tuple_of_four(
                context, builder, [builder.extract_value(out, i) for i in range(4)]
            )

        left, right = types.UniTuple(types.uint32, 4), types.UniTuple(types.uint32, 2)
        return float4(left, right, float4), codegen

    return mma


mma_tf32, mma_bf16 = _mma("mma_tf32", "m16n8k8", "tf32"), _mma("mma_bf16", "m16n8k16", "bf16")
