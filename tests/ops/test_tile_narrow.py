"""Tiles for processors that are not here: LLVM writes them, and they use the instruction meant."""

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from minidistil.ops import linear_bf16
from minidistil.ops._formats import round_bf16
from minidistil.ops._tile import tile_shape
from minidistil.ops._tile_narrow import bf16_dot, emit_bf16, emit_int8, int8_dot
from minidistil.testing import compare

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
        text = assembly(emit_int8, 9, dot, shape, triple, cpu)
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


def unsigned_words(q, w):
    """vpdpbusd: q + 128 without a sign, and 128·Σw taken off where the sum begins."""
    start = -128 * w.sum(axis=1, dtype=np.int32)
    shifted = (q.astype(np.int32) + 128).astype(np.uint8)
    total = np.broadcast_to(start, (len(q), len(w))).astype(np.int32)
    for k in range(0, q.shape[1], 4):
        products = shifted[:, None, k : k + 4].astype(np.int32) * w[None, :, k : k + 4]
        with np.errstate(over="ignore"):
            total = total + products.sum(axis=2, dtype=np.int32)
    return total


def test_a_sum_without_signs_is_the_sum():
    rng = np.random.default_rng(0)
    q, w = (rng.integers(-127, 128, size).astype(np.int8) for size in ((5, 64), (7, 64)))
    q[0], w[0], q[1], w[1] = 127, 127, -127, 127
    np.testing.assert_array_equal(unsigned_words(q, w), q.astype(np.int32) @ w.T.astype(np.int32))


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
    exact, _ = linear_bf16.forward(*(a.astype(np.float64) for a in args))
    for n in range(9):  # row by row: rows of 1e30 would drown the others
        reference, _ = linear_bf16.forward(*args)
        compare("row", dot_bf16(*args)[n], reference[n], exact[n])
