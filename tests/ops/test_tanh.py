"""tanh: odd, within ±1, and the tangent's addition law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend

halves = st.floats(-5, 5, width=32)


@given(a=halves, b=halves)
def test_addition_law(a, b):
    """tanh(a + b) = (tanh a + tanh b)/(1 + tanh a · tanh b)."""
    for ops in map(backend, SUFFIX):
        y, _ = ops.tanh.forward(np.array([[a, b, np.float32(a) + np.float32(b)]], np.float32))
        ta, tb, tsum = y[0].astype(np.float64)
        # 1 + ta·tb is small where a and b are large and opposite: compare without dividing.
        assert tsum * (1 + ta * tb) == pytest.approx(ta + tb, abs=4e-7)


@pytest.mark.parametrize("name", SUFFIX)
def test_saturation_stops_the_gradient(name):
    ops = backend(name)
    y, cache = ops.tanh.forward(np.array([[-50, 0, 50]], np.float32))
    np.testing.assert_array_equal(y, [[-1, 0, 1]])
    np.testing.assert_array_equal(
        ops.tanh.backward(np.full((1, 3), 2, np.float32), cache)[0], [[0, 2, 0]]
    )
