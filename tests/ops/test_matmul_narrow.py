"""The kernels of bfloat16 and int8 against their specifications, at sizes that bite."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounding import compare_product

from minidistil.ops import NARROW, backend, linear_bf16, linear_int8
from minidistil.ops.kernels import amx_linear, matmul_narrow
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.kernels.packing import KC
from minidistil.ops.kernels.register_tile import MR, NR
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import threads

pytestmark = pytest.mark.usefixtures("unit")

SIZES = [(N, I, O) for N in (1, MR - 1, MR, MR + 1, 31) for I in (1, 7, 8, 9, 61)
         for O in (1, NR - 1, NR, NR + 1, 37)]  # fmt: skip
DEEP = [(3, KC - 1, 5), (MR + 1, KC + 3, NR + 1), (2, 2 * KC + 1, 3), (300, 770, 130)]
each = pytest.mark.parametrize("dtype", NARROW)


def arguments(N, I, O, seed=0):
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((N, I), np.float32), rng.standard_normal((O, I), np.float32)
    return x, weight, rng.standard_normal(O, np.float32)


def check_int8(*args):
    y, cache = linear_int8.forward_cpu(*args)
    assert cache is None and y.dtype == np.float32
    np.testing.assert_array_equal(y, linear_int8.forward(*args)[0])
    return y


def check_bf16(*args):
    y, cache = linear_bf16.forward_cpu(*args)
    x, weight, bias = args
    assert cache[0] is x and cache[1] is weight
    reference, _ = linear_bf16.forward(*args)
    compare_product("product", y, reference, round_bf16(x), round_bf16(weight).T, bias)
    return y


CHECKS = {"int8": check_int8, "bfloat16": check_bf16}


@each
@pytest.mark.parametrize("size", SIZES + DEEP, ids=str)
def test_the_kernel_is_its_specification(size, dtype):
    CHECKS[dtype](*arguments(*size))


@each
@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 70), st.integers(0, 99))
def test_any_size(dtype, N, I, O, seed):
    CHECKS[dtype](*arguments(N, I, O, seed))


@pytest.mark.skipif(matmul_narrow.BF16.depth == 2, reason="vdpbf16ps sums in an order of its own")
@pytest.mark.parametrize("size", DEEP, ids=str)
def test_widened_bfloat16_sums_as_float32_does(size):
    x, weight, _ = arguments(*size)
    y, _ = linear_bf16.forward_cpu(x, weight, np.zeros(len(weight), np.float32))
    np.testing.assert_array_equal(y, matmul(round_bf16(x), round_bf16(weight).T))


@each
@pytest.mark.parametrize("size", [(1, 300, 997), (997, 300, 1), (130, 600, 250), (61, 40, 67)])
def test_threads_change_no_bit(size, dtype):
    args = arguments(*size)
    with threads(1):
        alone, _ = backend("cpu", dtype).linear.forward(*args)
    with threads(2):
        np.testing.assert_array_equal(backend("cpu", dtype).linear.forward(*args)[0], alone)


@each
def test_a_row_does_not_depend_on_its_neighbours(dtype):
    x, weight, bias = arguments(40, 50, 30)
    linear = backend("cpu", dtype).linear.forward
    whole, _ = linear(x, weight, bias)
    for n in (0, 7, 39):
        np.testing.assert_array_equal(linear(x[n : n + 1], weight, bias)[0][0], whole[n])


@each
def test_rows_of_every_magnitude(dtype):
    """Zeros, subnormal numbers, and numbers near both ends of float32."""
    x, weight, bias = arguments(MR + 7, 29, NR + 3)
    x *= np.ldexp(1.0, np.linspace(-145, 120, len(x)).astype(int))[:, None].astype(np.float32)
    x[3], weight[2] = 0, 0
    y = CHECKS[dtype](x, weight, bias)
    np.testing.assert_array_equal(y[3], bias)
    np.testing.assert_array_equal(y[:, 2], bias[2])


@each
def test_nan_and_infinity_stay_in_their_row_or_column(dtype):
    x, weight, bias = arguments(MR + 5, 29, NR + 3)
    x[1, 0], x[MR, 3], weight[2, 1], bias[4] = np.nan, np.inf, np.nan, np.nan
    y, _ = backend("cpu", dtype).linear.forward(x, weight, bias)
    with np.errstate(invalid="ignore"):
        specified, _ = backend("numpy", dtype).linear.forward(x, weight, bias)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(specified))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(specified))
    broken = ~np.isfinite(y)
    assert broken[1].all() and broken[MR].all() and broken[:, 2].all() and broken[:, 4].all()
    sound = np.delete(np.delete(broken, [1, MR], axis=0), [2, 4], axis=1)
    assert not sound.any()


@each
def test_nan_whose_upper_half_alone_would_be_infinity(dtype):
    x, weight, bias = arguments(2, 9, 3)
    x.view(np.uint32)[0, 0] = 0x7F800001
    weight.view(np.uint32)[1, 0] = 0xFF800001
    y, _ = backend("cpu", dtype).linear.forward(x, weight, bias)
    assert np.isnan(y[0]).all() and np.isnan(y[:, 1]).all() and np.isfinite(y[1, [0, 2]]).all()


@each
def test_views_and_nothing(dtype):
    linear = backend("cpu", dtype).linear.forward
    x, weight, bias = arguments(9, 40, 21)
    view = np.asfortranarray(np.tile(x, 2))[:, 40:]
    np.testing.assert_array_equal(linear(view, weight, bias)[0], linear(x, weight, bias)[0])
    turned = np.asfortranarray(weight)
    np.testing.assert_array_equal(linear(x, turned, bias)[0], linear(x, weight, bias)[0])
    assert linear(x[:0], weight, bias)[0].shape == (0, 21)
    assert linear(x, weight[:0], bias[:0])[0].shape == (9, 0)
    empty, _ = linear(x[:, :0], weight[:, :0], bias)
    np.testing.assert_array_equal(empty, np.tile(bias, (9, 1)))


def test_the_longest_sum_that_int8_allows():
    I = linear_int8.DEEPEST
    ones, bias = np.ones((1, I), np.float32), np.zeros(1, np.float32)
    weight, x = np.concatenate([ones, -ones]), np.concatenate([ones, -ones])
    y = check_int8(x, weight, np.zeros(2, np.float32))
    assert y[0, 0] == -y[0, 1] == -y[1, 0] == y[1, 1] and abs(y[0, 0] / I - 1) < 0.01
    long = np.ones((1, I + 1), np.float32)
    for name in ("numpy", "cpu"):
        with pytest.raises(ValueError, match=r"66,311 channels in 32 bits, not 66,312"):
            backend(name, "int8").linear.forward(long, long, bias)


@each
def test_other_dtypes_and_shapes_are_refused(dtype):
    linear = backend("cpu", dtype).linear.forward
    x, weight, bias = arguments(3, 4, 5)
    with pytest.raises(TypeError, match="weight is float64"):
        linear(x, weight.astype(np.float64), bias)
    with pytest.raises(TypeError, match="x is float64"):
        linear(x.astype(np.float64), weight, bias)
    for wrong in ((x, weight.T, bias), (x, weight, bias[1:]), (x[0], weight, bias)):
        with pytest.raises(ValueError, match="linear needs x"):
            linear(*wrong)


def test_a_processor_without_the_instructions(monkeypatch):
    monkeypatch.setattr(matmul_narrow, "INT8", None)
    with pytest.raises(ValueError, match="int8 needs a processor with SSE2, AVX2"):
        linear_int8.forward_cpu(*arguments(3, 4, 5))


# ---------------------------------------------------------------- what is kept


def counted(monkeypatch, dtype):
    """A list that grows by one at each packing."""
    name = {"int8": "pack_int8", "bfloat16": "pack_bf16"}[dtype]
    module, name = (amx_linear, f"{name}_tiles") if amx.in_use() else (matmul_narrow, name)
    pack, calls = getattr(module, name), []

    def counting(weight):
        calls.append(weight.shape)
        return pack(weight)

    counting.__name__ = name
    monkeypatch.setattr(module, name, counting)
    return calls


@each
def test_a_frozen_weight_is_packed_once_and_forgotten_with_it(dtype, monkeypatch):
    calls, linear = counted(monkeypatch, dtype), backend("cpu", dtype).linear.forward
    before = len(matmul_narrow._kept)
    x, weight, bias = arguments(3, 4, 5)
    weight.flags.writeable = False
    first = linear(x, weight, bias)[0]
    np.testing.assert_array_equal(linear(x, weight, bias)[0], first)
    assert len(calls) == 1 and len(matmul_narrow._kept) == before + 1
    del weight
    gc.collect()
    assert len(matmul_narrow._kept) == before


@each
def test_a_weight_that_can_change_is_never_kept(dtype, monkeypatch):
    calls, linear = counted(monkeypatch, dtype), backend("cpu", dtype).linear.forward
    before = len(matmul_narrow._kept)
    x, weight, bias = arguments(3, 4, 5)
    first = linear(x, weight, bias)[0]
    view = weight[:]
    view.flags.writeable = False  # its owner can still write
    linear(x, view, bias)
    weight *= 2
    assert (linear(x, view, bias)[0] != first).all()
    assert len(calls) == 3 and len(matmul_narrow._kept) == before


def test_both_formats_of_one_weight():
    x, weight, bias = arguments(3, 4, 5)
    weight.flags.writeable = False
    for _ in range(2):
        check_int8(x, weight, bias)
        check_bf16(x, weight, bias)
