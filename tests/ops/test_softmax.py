"""Softmax: probabilities, blind to a shift of the whole row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minidistil.ops import SUFFIX, backend

scores = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.floats(-80, 80, width=32),
)


@given(x=scores, shift=st.integers(-1000, 1000))
def test_probabilities_that_a_shift_leaves_alone(x, shift):
    x = np.round(x * 8) / 8  # on a grid that the shift does not leave, so that x + shift is exact
    for ops in map(backend, SUFFIX):
        y, cache = ops.softmax.forward(x)
        assert (y >= 0).all()
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
        shifted, _ = ops.softmax.forward(x + np.float32(shift))
        np.testing.assert_array_equal(shifted, y)
        (dx,) = ops.softmax.backward(np.ones_like(x), cache)
        np.testing.assert_allclose(dx, 0, atol=1e-5)  # the probabilities always sum to one


@given(x=scores)
def test_a_gradient_moves_no_probability_mass_in_total(x):
    for ops in map(backend, SUFFIX):
        _, cache = ops.softmax.forward(x)
        dy = np.random.default_rng(x.size).normal(size=x.shape).astype(np.float32)
        (dx,) = ops.softmax.backward(dy, cache)
        np.testing.assert_allclose(dx.sum(axis=1), 0, atol=1e-5)


@pytest.mark.parametrize("name", SUFFIX)
def test_scores_that_would_overflow(name):
    x = np.array([[1e4, 1e4, -1e4], [-3e38, 0, 0]], np.float32)
    y, _ = backend(name).softmax.forward(x)
    np.testing.assert_allclose(y, [[0.5, 0.5, 0], [0, 0.5, 0.5]], atol=1e-30)
