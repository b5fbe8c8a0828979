"""Tiles for processors that are not here: LLVM writes them, and they use the instruction meant."""

import ctypes
import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from rounding import compare_product

from minidistil.ops import linear_bf16, linear_int8
from minidistil.ops.kernels.number_formats import quantize, quantize_rows, round_bf16
from minidistil.ops.kernels.register_tile import tile_shape
from minidistil.ops.kernels.register_tile_narrow import (
    Dot,
    bf16_dot,
    emit_bf16,
    emit_int8,
    int8_dot,
)
from minidistil.ops.kernels.row_rounding import whole_row

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
AVX512 = {"+avx512f", "+avx2"}
TILES = [
    ("int8", X86, "znver4", AVX512 | {"+avx512bw", "+avx512vnni"}, "vpdpbusd"),
    ("int8", X86, "sapphirerapids", AVX512 | {"+avx512bw", "+avx512vnni"}, "vpdpbusd"),
    ("int8", X86, "skylake-avx512", AVX512 | {"+avx512bw"}, "vpmaddwd"),
    ("int8", X86, "alderlake", {"+avx2", "+avxvnni"}, "vpdpbusd"),
    ("int8", X86, "znver3", {"+avx2"}, "vpmaddwd"),
    ("int8", X86, "x86-64", {"+sse2"}, "pmaddwd"),
    ("int8", ARM, "neoverse-n1", {"+neon", "+dotprod"}, "sdot"),
    ("bfloat16", X86, "znver4", AVX512 | {"+avx512bf16"}, "vdpbf16ps"),
    ("bfloat16", X86, "sapphirerapids", AVX512 | {"+avx512bf16"}, "vdpbf16ps"),
    ("bfloat16", X86, "skylake-avx512", AVX512, "vfmadd"),
    ("bfloat16", X86, "znver3", {"+avx2"}, "vfmadd"),
    ("bfloat16", ARM, "neoverse-n1", {"+neon"}, "fmla"),
]


def assembly(emit, arguments, dot, shape, triple, cpu):
    """The tile as LLVM writes it for a processor."""
    module = ir.Module()
    module.triple, kind = triple, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * arguments)
    function = ir.Function(module, kind, "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, list(function.args), dot, shape)
    builder.ret_void()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile[0]}-{tile[2]}")
def test_one_instruction_for_each_vector_of_a_tile(tile):
    dtype, triple, cpu, features, instruction = tile
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    rows, columns, lanes = shape = tile_shape(features)
    if dtype == "int8":
        dot, steps = int8_dot(features, lanes), 1
        text = assembly(emit_int8, 10, dot, shape, triple, cpu)
    else:
        dot = bf16_dot(features)
        steps = 2 // dot.depth
        text = assembly(emit_bf16, 7, dot, shape, triple, cpu)
    found = re.findall(rf"^\s+(?:{{vex}}\s+)?{instruction}\S*\s", text, re.MULTILINE)
    assert len(found) == steps * rows * (columns // lanes)


def test_processors_without_any():
    assert int8_dot({"+avx512f"}, 16) is None
    assert int8_dot({"+neon"}, 4) is None
    assert int8_dot(set(), 4) is None
    assert bf16_dot(set()).depth == 1


# ---------------------------------------------------------------- what those instructions compute


@pytest.mark.parametrize("line", [np.uint8(0), np.int8(-128), np.int16(0)], ids=lambda x: x.dtype)
def test_eight_bits_are_enough_for_a_row(line):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 64), np.float32) + rng.normal(size=(50, 1)).astype(np.float32)
    x[0], x[1], x[2] = 0, np.abs(x[1]), -np.abs(x[2])
    q, scales = quantize_rows(x)
    for row, whole, scale in zip(x, q, scales, strict=True):
        moved = np.full(64, 7, line.dtype)
        found, zero = whole_row(row, moved, line.itemsize == 1, int(line))
        assert found == scale
        np.testing.assert_array_equal(moved.astype(np.int32) + zero, whole)


def four_at_once(module, name, lanes, signed):
    """vpdpbusd (the left side without a sign) or sdot, in plain steps under another name."""
    sums, bytes_ = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.IntType(8), 4 * lanes)
    function = ir.Function(module, ir.FunctionType(sums, [sums, bytes_, bytes_]), name)
    builder, (total, a, b) = ir.IRBuilder(function.append_basic_block()), function.args
    wide = ir.VectorType(ir.IntType(32), 4 * lanes)
    products = builder.mul(
        (builder.sext if signed else builder.zext)(a, wide), builder.sext(b, wide)
    )
    for k in range(4):
        places = ir.Constant(sums, list(range(k, 4 * lanes, 4)))
        total = builder.add(total, builder.shuffle_vector(products, products, places))
    builder.ret(total)


@pytest.mark.parametrize("left", ["uint8", "int8"])
def test_a_tile_of_four_channels_a_word(left):
    """The tile of processors with such an instruction, run here with the instruction spelt out."""
    rows, columns, lanes, steps = 3, 16, 8, 5
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    four_at_once(module, "four", lanes, signed=left == "int8")
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 10)
    function = ir.Function(module, kind, "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_int8(builder, list(function.args), Dot("four", 4, left), (rows, columns, lanes))
    builder.ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 10)(engine.get_function_address("tile"))

    rng, I = np.random.default_rng(0), 4 * steps
    x, weight = rng.standard_normal((rows, I), np.float32), rng.standard_normal((columns, I))
    bias, y = rng.standard_normal(columns, np.float32), np.empty((rows, columns), np.float32)
    lines = np.empty((rows, I), left)
    found = [whole_row(*pair, True, np.iinfo(left).min) for pair in zip(x, lines, strict=True)]
    s, zero = np.float32([f[0] for f in found]), np.int32([f[1] for f in found])
    w, t = quantize(weight)
    a = np.ascontiguousarray(lines.reshape(rows, steps, 4).swapaxes(0, 1))
    b = np.ascontiguousarray(w.reshape(columns, steps, 4).swapaxes(0, 1))
    sums = w.sum(axis=1, dtype=np.int32)
    run(steps, *(v.ctypes.data for v in (a, b, y)), 4 * columns,
        *(v.ctypes.data for v in (s, zero, t, sums, bias)))  # fmt: skip
    np.testing.assert_array_equal(y, linear_int8.forward(x, weight, bias)[0])


def dot_bf16(x, weight, bias):
    """vdpbf16ps: each step adds the second pair's product, then the first's; denormals are zero."""

    def flushed(v):
        return np.where(np.abs(v) < np.finfo(np.float32).tiny, np.float32(0), v)

    x, weight = flushed(round_bf16(x)), flushed(round_bf16(weight))
    total = np.zeros((len(x), len(weight)), np.float32)
    for k in range(0, x.shape[1], 2):
        for c in (k + 1, k):
            product = x[:, None, c].astype(np.float64) * weight[None, :, c]
            total = flushed(np.float32(product + total))  # one rounding: fused
    return total + bias


def test_the_instruction_for_pairs_of_bfloat16_is_as_near_as_the_specification():
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s, np.float32) for s in ((9, 256), (11, 256), (11,))]
    args[0][2] *= np.float32(1e-38)
    args[0][3] *= np.float32(1e30)
    y, (reference, _) = dot_bf16(*args), linear_bf16.forward(*args)
    x, weight = (round_bf16(a) for a in args[:2])
    for n in range(9):  # row by row: rows of 1e30 would drown the others
        row = slice(n, n + 1)
        compare_product("row", y[row], reference[row], x[row], weight.T, args[2])
