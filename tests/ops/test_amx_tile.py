"""AMX's tiles: the code for processors that have them, and what they compute, to the bit."""

import re
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from minidistil.ops.kernels import amx_reference
from minidistil.ops.kernels.amx_finish import emit_finish, emit_finish_int8
from minidistil.ops.kernels.amx_matmul import SHAPES
from minidistil.ops.kernels.amx_panels import PARTS, emit_split, emit_transpose
from minidistil.ops.kernels.amx_tile import (
    BF16,
    FORMATS,
    HIGH,
    HIGHEST,
    INT8,
    ROW,
    SIDE,
    TILE,
    Block,
    block,
    configure,
    emit_block,
    release,
)
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import exact
from minidistil.ops.runtime.workspace import aligned

KINDS = {"bf16": BF16, "int8": INT8, "high": HIGH, "highest": HIGHEST}
LONG = ir.IntType(64)


def assembly(emit, kinds, cpu="sapphirerapids"):
    """What LLVM makes of emitted code, for a processor that need not be here."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = "x86_64-unknown-linux-gnu"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "code")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, list(function.args))
    builder.ret_void()
    machine = llvm.Target.from_triple(module.triple).create_target_machine(cpu=cpu, opt=3)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


def count(name, text):
    return len(re.findall(rf"^\s+{name}\s", text, re.MULTILINE))


@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_one_instruction_for_each_product_and_nothing_through_memory(kind, down):
    form = FORMATS[KINDS[kind]]
    text = assembly(lambda b, args: emit_block(b, args, KINDS[kind], down), [LONG] * 6)
    products = sum(len(products) for products in form.passes)
    assert count(form.dot, text) == 2 * down * products
    assert count("tilezero", text) == count("tilestored", text) - len(form.passes) == 2 * down
    assert count("tileloadd", text) <= len(form.passes) * (2 + down) * max(1, form.parts)
    assert "Spill" not in text and "Reload" not in text


@pytest.mark.parametrize("cpu", ["sapphirerapids", "skylake-avx512", "znver3", "x86-64"])
def test_the_rest_is_for_any_processor(cpu):
    for kind in KINDS.values():
        for by_rows in (True, False):
            assembly(lambda b, a: emit_split(b, a, kind, by_rows), [LONG] * 4, cpu)  # noqa: B023
    assembly(lambda b, a: emit_transpose(b, *a), [LONG], cpu)
    kinds = [LONG] * 7 + [ir.FloatType()]
    text = assembly(lambda b, a: emit_finish(b, a[:7], a[7]), kinds, cpu)
    assert ("vfmadd" in text) == (cpu != "x86-64")
    text = assembly(emit_finish_int8, [LONG] * 9, cpu)
    assert "vfmadd" not in text


# ---------------------------------------------------------------- what the instructions compute

has_amx = pytest.mark.skipif(bool(amx.refusal()), reason=amx.refusal())


@exact()
def run(operands, shapes):
    configure(shapes)
    block(operands)
    release()


def bits_of(name, rng, count):
    """bfloat16 numbers of a kind, as 16 bits each."""
    x = rng.standard_normal(count, np.float32)
    if name == "every magnitude":
        x = np.ldexp(x, rng.integers(-140, 120, count)).astype(np.float32)
    elif name == "around the subnormal":
        x = np.ldexp(x, rng.integers(-70, -55, count)).astype(np.float32)
    elif name == "infinity and NaN":
        x[rng.random(count) < 0.01] = rng.choice(np.float32([np.inf, -np.inf, np.nan]))
    return (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)


@has_amx
@pytest.mark.parametrize(
    "data", ["normal", "every magnitude", "around the subnormal", "infinity and NaN"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_in_numpy_is_the_instruction(kind, data):
    kind, rng = KINDS[kind], np.random.default_rng(0)
    for steps in (1, 2, 5):
        size = steps * 2 * TILE * PARTS[kind]
        panels = aligned(2 * size).reshape(2, size)
        for panel in panels:
            panel[:] = rng.integers(0, 256, size, np.uint8)
            if kind != INT8:
                panel[:] = bits_of(data, rng, size // 2)
        for rows in (1, 16, 17, 32):
            found = np.zeros((2, SIDE, SIDE), np.int32 if kind == INT8 else np.float32)
            at = [x.ctypes.data for x in (*panels, *found)]
            unread = aligned(ROW)
            operands = Block(kind, rows, steps, *at[:3], 4 * SIDE, unread.ctypes.data)
            run(operands, SHAPES.ctypes.data)
            with np.errstate(all="ignore"):
                amx_reference.run_block(operands._replace(to=at[3]))
            np.testing.assert_array_equal(*found)
            assert found[0].any()


# ---------------------------------------------------------------- whether there are any


def test_the_environment_switches_it_off():
    script = "from minidistil.ops.runtime import amx; print(amx.in_use(), amx.refusal())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, env={"MINIDISTIL_AMX": "0"})  # fmt: skip
    assert done.stdout == "False MINIDISTIL_AMX=0\n"


def test_why_there_is_none(monkeypatch):
    refusal = amx.refusal.__wrapped__
    monkeypatch.delenv(amx.VARIABLE, raising=False)
    monkeypatch.setattr(amx, "FEATURES", amx.FEATURES - {"+amx-tile"})
    monkeypatch.setattr(amx.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(amx.sys, "platform", "linux")
    assert refusal() == "the processor has no AMX"
    monkeypatch.setattr(amx, "FEATURES", amx.NEEDED)
    monkeypatch.setattr(amx, "TILE_DATA", 62)  # which no kernel knows
    assert refusal().startswith("Linux refuses AMX: ")
    monkeypatch.setattr(amx.sys, "platform", "darwin")
    assert refusal() == "AMX needs Linux on x86-64"


def test_a_block_without():
    with amx.without_amx():
        assert not amx.in_use()
        with amx.without_amx(False):
            assert amx.in_use() == (not amx.refusal())
        assert not amx.in_use()
