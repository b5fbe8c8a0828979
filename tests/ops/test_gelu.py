"""GELU: gelu(x) − gelu(−x) = x, and two forms that differ by more than rounding."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend
from minidistil.ops.kernels.activation import gelu_erf_short
from minidistil.ops.runtime.cpu import serial

GRID = np.linspace(-6, 6, 2001, dtype=np.float32)[None]


@given(x=st.floats(-30, 30), form=st.sampled_from(["none", "tanh"]))
def test_reflection(x, form):
    """Φ(x) + Φ(−x) = 1."""
    for ops in map(backend, SUFFIX):
        pair = np.array([[x, -x]], np.float32)
        y, _ = ops.gelu.forward(pair, approximate=form)
        assert y[0, 0] - y[0, 1] == pytest.approx(pair[0, 0], rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("name", SUFFIX)
def test_the_two_forms_differ_as_published(name):
    ops = backend(name)
    exact, _ = ops.gelu.forward(GRID)
    close, _ = ops.gelu.forward(GRID, approximate="tanh")
    assert 4e-4 < np.abs(exact - close).max() < 6e-4


@pytest.mark.parametrize("name", SUFFIX)
def test_known_values(name):
    y, _ = backend(name).gelu.forward(np.array([[0, 1, -1, 100, -100]], np.float32))
    phi = 0.5 * (1 + math.erf(math.sqrt(0.5)))
    np.testing.assert_allclose(y[0], [0, phi, phi - 1, 100, 0], rtol=1e-6, atol=1e-30)


@serial
def short_of(x, y):
    for i in range(len(x)):
        y[i] = gelu_erf_short(x[i])


def test_the_short_form_is_good_to_14_bits_and_exact_far_away():
    x = np.concatenate([np.linspace(-30, 30, 600_001), [1e30, 3e38, np.inf]]).astype(np.float32)
    exact = x.astype(np.float64) * [0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x]
    y = np.empty_like(x)
    short_of(x, y)
    np.testing.assert_allclose(y, exact, rtol=0, atol=2**-14)
    np.testing.assert_array_equal(y[x > 4.5], x[x > 4.5])
    np.testing.assert_array_equal(y[x < -4.5], 0)
    np.testing.assert_allclose(y[abs(x) < 1], exact[abs(x) < 1], rtol=2**-12, atol=0)
    short_of(np.array([np.nan], np.float32), y)
    assert np.isnan(y[0])
