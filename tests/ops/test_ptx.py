"""Every CUDA kernel compiled, with no device: what only the real compiler says.

    pip install -e '.[test,cuda]' && pytest -m ptx

The simulator knows no types, so a constant in float64 or an array that has to live in memory, since
a loop around it was not unrolled, shows here alone: no .f64, no stack, nothing spilled, and no more
registers than are written down. What is compiled for sm_80 is assembled for sm_80 and sm_90.
"""

import importlib
import re
from types import FunctionType

import numpy as np
import pytest

from minidistil import puzzles
from minidistil.ops import OPS, adamw, gelu, relation, vocabulary, weighted_cross_entropy
from minidistil.ops.kernels import flash_attention_cuda, matmul_cuda, matmul_tensor_cores, peak_cuda
from minidistil.ops.runtime import cuda
from minidistil.ops.runtime.dropout_key import DropoutWords

pytestmark = pytest.mark.ptx
WIDE, NARROW = 64, 26  # channels of a head, whose rows can be read four floats at a time or not
ORDERS = {"forward": (False, True), "dx": (False, False), "dW": (True, False)}
DRAW = "iiD"  # sequence, column, DropoutWords


def kernels():
    """(name, kernel, a letter for each argument, registers it may take)."""
    for order, turned in ORDERS.items():
        for tile in ("LARGE", "SMALL"):
            kernel = matmul_cuda.product_kernel(getattr(matmul_cuda, tile), *turned, True, False, 0)
            yield f"{tile.lower()} {order}", kernel, "mmmmvnnnnb", 128 if tile == "LARGE" else 168
        for bf16 in (False, True):
            kernel = matmul_tensor_cores.tensor_kernel(bf16, *turned, True, False, 0)
            yield f"{'bf16' if bf16 else 'tf32'} {order}", kernel, "mmmmvnnnnb", 255
    for name, tile, *order in (
        ("any width", matmul_cuda.LARGE, False, True, False, False, 0),
        ("added to C", matmul_cuda.LARGE, True, False, True, True, 0),
        ("GELU", matmul_cuda.LARGE, False, True, True, False, 1),
        ("GELU by tanh", matmul_cuda.SMALL, False, True, True, False, 2),
    ):
        yield f"product {name}", matmul_cuda.product_kernel(tile, *order), "mmmmvnnnnb", 168
    for name, *order in (("any width", False, True, False, False, 0),
                         ("added to C", True, False, True, True, 0),
                         ("GELU", False, True, True, False, 1)):  # fmt: skip
        yield f"tf32 {name}", matmul_tensor_cores.tensor_kernel(False, *order), "mmmmvnnnnb", 255
    for form in (0, 1, 2):
        yield f"finish {form}", matmul_cuda.finish_kernel(form), "tmmvnnbb", 40
    for D, width, causal, forward, backward in (
        (WIDE, 64, False, 240, 176), (WIDE, 64, True, 252, 248),
        (NARROW, 32, False, 184, 168), (NARROW, 32, True, 200, 168),
    ):  # fmt: skip
        for dropout in (False, True):
            shape = (D, width, D == WIDE, dropout, causal)
            name = f"{D}{' dropout' * dropout}{' causal' * causal}"
            own = flash_attention_cuda.FORWARD_ROWS, flash_attention_cuda.BACKWARD_ROWS
            yield (f"attention {name}", flash_attention_cuda.forward_kernel(own[0], *shape),
                   f"mmmiif{DRAW}mt", forward)  # fmt: skip
            yield (f"attention dq {name}", flash_attention_cuda.dq_kernel(own[1], *shape),
                   f"mmmmtmiif{DRAW}m", backward)  # fmt: skip
            yield (f"attention dkv {name}", flash_attention_cuda.dkv_kernel(own[1], *shape),
                   f"mmmmtmiif{DRAW}mm", backward)  # fmt: skip
    yield "along", flash_attention_cuda.along_kernel, "mmmn", 40
    for form in (1, 2):
        yield f"gelu {form}", gelu._forward_kernel(form), "mm", 40
        yield f"gelu backward {form}", gelu._backward_kernel(form), "mmm", 40
    for bf16 in (False, True):
        yield f"peak {'bf16' if bf16 else 'tf32'}", peak_cuda.tensor_peak(bf16), "vn", 48
    for measure in range(len(relation.MEASURES)):
        yield f"relation rows {measure}", relation._rows_kernel(measure), "mmmmIvmv", 128
    for file, name, letters in PLAIN:
        kernel = getattr(importlib.import_module(f"minidistil.ops.{file}"), name)
        yield f"{file}.{name}", kernel, letters, 64


PLAIN = (
    ("kernels.peak_cuda", "_copy_kernel", "vv"),
    ("kernels.peak_cuda", "_multiply_add_kernel", "vn"),
    ("runtime.cuda", "_clear_kernel", "v"), ("runtime.cuda", "_add_into_kernel", "vv"),
    ("runtime.cuda", "_scale_kernel", "vfv"), ("runtime.cuda", "_total_kernel", "vfv"),
    ("add", "_forward_kernel", "vvv"), ("relu", "_forward_kernel", "mm"),
    ("relu", "_backward_kernel", "mmm"), ("tanh", "_forward_kernel", "mm"),
    ("tanh", "_backward_kernel", "mmm"), ("softmax", "_forward_kernel", "mm"),
    ("softmax", "_backward_kernel", "mmm"), ("layernorm", "_forward_kernel", "mvvfmmm"),
    ("layernorm", "_backward_kernel", "mmmvm"), ("layernorm", "_columns_kernel", "mmmm"),
    ("add_layernorm", "_forward_kernel", "mmvvfmmm"), ("dropout", "_mask_kernel", "miiDm"),
    ("embedding", "_gather_kernel", "mim"), ("embedding", "_add_rows_kernel", "miiim"),
    ("cross_entropy", "_forward_kernel", "minvm"), ("cross_entropy", "_backward_kernel", "fminmm"),
    ("weighted_cross_entropy", "_forward_kernel", "minvSvm"),
    ("weighted_cross_entropy", "_backward_kernel", "fminvSmm"),
    ("binary_cross_entropy", "_forward_kernel", "mmv"),
    ("binary_cross_entropy", "_backward_kernel", "fmmm"),
    ("kl_div", "_forward_kernel", "mmifvm"), ("kl_div", "_backward_kernel", "fmmifmm"),
    ("cosine", "_forward_kernel", "mmifmv"), ("cosine", "_backward_kernel", "fmmimm"),
    ("mse", "_forward_kernel", "mmiv"), ("mse", "_backward_kernel", "fmmim"),
    ("mae", "_forward_kernel", "mmiv"), ("mae", "_backward_kernel", "fmmim"),
    ("linear", "_sum_chunks_kernel", "mm"), ("adamw", "_update_kernel", "IA"),
    ("global_norm", "_square_kernel", "Iv"), ("global_norm", "_scale_kernel", "If"),
    ("moments", "_forward_kernel", "mm"), ("moments", "_backward_kernel", "mmmm"),
    ("relation", "_gradients_kernel", "mmIvmmm"),
    ("vocabulary", "_replace_by_gradient_kernel", "mminfPm"),
    ("vocabulary", "_add_losses_kernel", "mPPvv"),
)  # fmt: skip


def argument_types(letters):
    from numba import boolean, float32, int64, types, uint32

    kinds = {
        "v": float32[::1], "m": float32[:, ::1], "t": float32[:, :, ::1], "i": int64[::1],
        "I": int64[:, ::1], "n": int64, "f": float32, "b": boolean,
        "A": types.NamedUniTuple(float32, len(adamw.Scalars._fields), adamw.Scalars),
        "D": types.NamedTuple((uint32,) * 4 + (float32,), DropoutWords),
        "P": types.NamedUniTuple(float32, 3, vocabulary.PerLoss),
        "S": types.NamedUniTuple(float32, 3, weighted_cross_entropy.Smoothing),
    }  # fmt: skip
    return tuple(kinds[letter] for letter in letters)


def compiled(kernel, letters):
    """PTX, and what the assembler says for sm_80 and for sm_90."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    source, types = kernel.source(), argument_types(letters)
    ptx, _ = cuda.module().compile_ptx(source, types, cc=(8, 0))
    reports = []
    for arch in ("sm_80", "sm_90"):
        options = LinkerOptions(arch=arch, ptxas_options=["-v"])
        linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
        linker.link("cubin")
        reports.append(linker.get_info_log())
    return ptx, reports


def complaints(ptx, reports, registers):
    """What is wrong with a kernel, in words."""
    wrong = []
    if ".f64" in ptx:
        wrong.append("computes in float64")
    if "__local_depot" in ptx:
        wrong.append("keeps an array in memory")
    for report in reports:
        used = int(re.search(r"Used (\d+) registers", report)[1])
        if used > registers:
            wrong.append(f"takes {used} registers, allowed are {registers}")
        if re.search(r"[1-9]\d* bytes (stack|spill)", report):
            wrong.append("spills registers")
    return wrong


@pytest.fixture
def nothing_lazy():
    """Every file with kernels is imported, so that all of them are known."""
    for op in OPS:
        importlib.import_module(f"minidistil.ops.{op}")


@pytest.mark.parametrize(
    "kernel, letters, registers", [pytest.param(*rest, id=name) for name, *rest in kernels()]
)
def test_a_kernel(kernel, letters, registers):
    assert complaints(*compiled(kernel, letters), registers) == []


def test_tensor_cores_are_used():
    for bf16, kind in ((False, "m16n8k8.row.col.f32.tf32"), (True, "m16n8k16.row.col.f32.bf16")):
        kernel = matmul_tensor_cores.tensor_kernel(bf16, False, True, True, False, 0)
        ptx, _ = compiled(kernel, "mmmmvnnnnb")
        for instruction in (f"mma.sync.aligned.{kind}", "ldmatrix.sync", "cp.async.cg"):
            assert instruction in ptx


def test_memory_is_read_four_floats_at_a_time():
    kernel = matmul_cuda.product_kernel(matmul_cuda.LARGE, False, True, True, False, 0)
    ptx, _ = compiled(kernel, "mmmmvnnnnb")
    assert all(f"{what}.v4.f32" in ptx for what in ("ld.global", "ld.shared", "st.global"))


def full_name(kernel):
    return kernel.function.__module__, kernel.function.__qualname__


def test_no_kernel_is_left_out(nothing_lazy):
    known = {full_name(kernel) for _, kernel, *_ in kernels()}
    assert {full_name(kernel) for kernel in cuda.KERNELS} <= known


# ------------------------------------------------------- and what these tests are for


class _Kernel:
    """A function that is no kernel of the package."""

    def __init__(self, function):
        self.function = function

    def source(self):
        names = {"__name__": __name__, "cuda": cuda.module()}
        return FunctionType(self.function.__code__, names)


@pytest.mark.parametrize("name", puzzles.NAMES)
def test_the_solution_of_a_puzzle_is_a_kernel_of_a_device(name):
    puzzle = puzzles.find(name)
    values = [*puzzle.inputs.values(), puzzle.wanted()]
    types = argument_types(["fvm"[np.ndim(value)] for value in values])
    ptx, _ = cuda.module().compile_ptx(cuda._resolve(puzzle.solution), types, cc=(8, 0))
    assert ".entry" in ptx and ".f64" not in ptx


def test_float64_is_seen():
    def kernel(x):
        x[0] = x[0] * 0.1 + x[1]

    assert complaints(*compiled(_Kernel(kernel), "v"), 40) == ["computes in float64"]


def test_an_array_in_memory_is_seen():
    def kernel(x, n):
        a = cuda.local.array(8, cuda.float32)
        for i in range(8):
            a[i] = x[i]
        x[0] = a[n]

    assert "keeps an array in memory" in complaints(*compiled(_Kernel(kernel), "vn"), 40)
