"""Linear in bfloat16: PyTorch rounds to the same bits, and only the sum may round otherwise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import linear_bf16
from minidistil.ops.kernels.number_formats import round_bf16

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
    assert y.dtype == dtype and cache is None
    np.testing.assert_array_equal(y, round_bf16(x) @ round_bf16(weight).T + bias)
    assert (np.abs(y - (x @ weight.T + bias)) > 1e-4).any()
