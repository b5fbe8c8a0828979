"""Linear in bfloat16: PyTorch rounds to the same bits, and only the sum may round otherwise.

Its backward is that of `linear` at rounded operands and a rounded cotangent.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounding import compare_product

from minidistil.ops import backend, linear, linear_bf16
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.runtime.cpu import threads
from minidistil.testing import compare, rms

AWKWARD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 1.17e-38, 3.4e38, -3.4e38]


def bits(x):
    return np.asarray(x, np.float32).view(np.uint32)


def all_scales(rng, size):
    """Numbers of every magnitude that float32 has, subnormal ones too."""
    x = np.ldexp(rng.uniform(1, 2, size), rng.integers(-149, 128, size)).astype(np.float32)
    return np.where(rng.random(size) < 0.5, x, -x)


def test_rounding_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    x = np.append(all_scales(np.random.default_rng(0), 10**5), np.float32(AWKWARD))
    theirs = torch.tensor(x).bfloat16().float().numpy()
    number = ~np.isnan(x)
    np.testing.assert_array_equal(bits(round_bf16(x))[number], bits(theirs)[number])
    assert np.isnan(round_bf16(x)[~number]).all()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_rounding_takes_the_nearest_and_the_even_one_of_two(value):
    x = np.float32([value])
    got = round_bf16(x)
    below = bits(x) & 0xFFFF0000
    around = np.concatenate([below, below + 0x10000]).view(np.float32).astype(np.float64)
    if np.isfinite(around).all():
        distance = np.abs(around - np.float64(x))
        nearest = around[distance == distance.min()]
        assert got in nearest
        assert len(nearest) == 1 or not bits(got)[0] & 0x10000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_specification_rounds_operands_and_nothing_else(dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.normal(size=s).astype(dtype) for s in ((7, 33), (5, 33), (5,)))
    y, cache = linear_bf16.forward(x, weight, bias)
    assert y.dtype == dtype and cache[0] is x and cache[1] is weight
    np.testing.assert_array_equal(y, round_bf16(x) @ round_bf16(weight).T + bias)
    assert (np.abs(y - (x @ weight.T + bias)) > 1e-4).any()


# ---------------------------------------------------------------- backward

SIZES = [(1, 1, 1), (15, 31, 17), (16, 32, 16), (17, 33, 15), (31, 97, 33), (33, 65, 31),
         (257, 70, 61), (7, 300, 130)]  # fmt: skip


def problem(N, I, O, dtype=np.float32):
    """x, weight, bias; dy."""
    rng = np.random.default_rng(N + I + O)
    x, weight, bias, dy = (rng.normal(size=s) for s in ((N, I), (O, I), (O,), (N, O)))
    return [a.astype(dtype) for a in (x, weight, bias)], dy.astype(dtype)


def test_the_gradient_is_that_of_the_product_of_rounded_operands():
    """Where nothing is left to round, it is the transpose of the derivative; elsewhere it is the
    gradient at the nearest such place."""
    (x, weight, bias), dy = problem(5, 33, 7, np.float64)
    rounded = [round_bf16(x), round_bf16(weight), bias]
    exact = linear.backward(round_bf16(dy), rounded[:2])
    mine = linear_bf16.backward(dy, (x, weight))
    for one, other in zip(mine[:2], exact[:2], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float64
    np.testing.assert_array_equal(mine[2], linear.backward(dy, rounded[:2])[2])  # ∂b is not rounded


def test_pytorch_agrees_when_rounding_is_passed_straight_through():
    torch = pytest.importorskip("torch")

    def rounded(x):
        return x + (x.detach().float().bfloat16().to(x) - x.detach())

    args, dy = problem(11, 45, 6)
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in args]
    x, weight, bias = leaves
    h = rounded(x) @ rounded(weight).T
    h.register_hook(lambda dh: dh.float().bfloat16().to(dh))
    (h + bias).backward(torch.tensor(dy, dtype=torch.float64))
    mine = linear_bf16.backward(dy.astype(np.float64), [a.astype(np.float64) for a in args[:2]])
    for one, leaf in zip(mine, leaves, strict=True):
        np.testing.assert_allclose(one, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_kernels_backward_is_its_specification(size):
    (x, weight, bias), dy = problem(*size)
    linear = backend("cpu", "bfloat16").linear
    _, cache = linear.forward(x, weight, bias)
    mine, specified = linear.backward(dy, cache), linear_bf16.backward(dy, cache)
    rx, rw, rdy = map(round_bf16, (x, weight, dy))
    compare_product("dx", mine[0], specified[0], rdy, rw)
    compare_product("dweight", mine[1], specified[1], rdy.T, rx)
    exact = dy.sum(axis=0, dtype=np.float64)
    compare("dbias", mine[2], specified[2], exact, scale=len(dy) ** 0.5)


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("size", [(130, 97, 250), (997, 33, 5)])
def test_threads_change_no_bit_of_the_gradient(size):
    args, dy = problem(*size)
    linear, found = backend("cpu", "bfloat16").linear, []
    for count in (1, 2):
        with threads(count):
            found.append(linear.backward(dy, linear.forward(*args)[1]))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("unit")
def test_it_is_near_the_gradient_in_float32_and_not_equal():
    args, dy = problem(64, 96, 48)
    exact, near = (
        ops.linear.backward(dy, ops.linear.forward(*args)[1])
        for ops in (backend("cpu"), backend("cpu", "bfloat16"))
    )
    for one, other in zip(near[:2], exact[:2], strict=True):
        assert 1e-4 < rms(one - other) / rms(other) < 1e-2
    np.testing.assert_array_equal(near[2], exact[2])
