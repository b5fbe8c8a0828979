"""Cosine: only directions matter, so lengths stay free and the gradient never points along x."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend


def draw(N, C, seed=0):
    return np.random.default_rng(seed).normal(size=(2, N, C)).astype(np.float32)


def both_ways(ops, x, **fixed):
    """loss, dx."""
    y, cache = ops.cosine.forward(x, **fixed)
    return y, ops.cosine.backward(x.dtype.type(1), cache)[0]


@given(seed=st.integers(0, 999), C=st.integers(2, 20), a=st.floats(0.01, 99), b=st.floats(0.01, 99))
def test_lengths_are_free(seed, C, a, b):
    x, target = draw(3, C, seed)
    for ops in map(backend, SUFFIX):
        loss, dx = both_ways(ops, x, target=target)
        scaled, dscaled = both_ways(ops, x * np.float32(a), target=target * np.float32(b))
        assert -1e-6 <= loss <= 2 + 1e-6
        assert scaled == pytest.approx(loss, abs=1e-6)
        np.testing.assert_allclose(dscaled * a, dx, rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose((x * dx).sum(axis=1), 0, atol=2e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_ends_of_the_scale(name):
    """The same direction costs 0, the opposite 2, a right angle 1."""
    x = np.array([[3, 0, 0]], np.float32)
    for target, expected in (([5, 0, 0], 0), ([-1, 0, 0], 2), ([0, 7, 0], 1)):
        loss, _ = both_ways(backend(name), x, target=np.array([target], np.float32))
        assert loss == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_a_step_down_turns_towards_the_target(name):
    ops, (x, target) = backend(name), draw(4, 8)
    loss, dx = both_ways(ops, x, target=target)
    assert both_ways(ops, x - 0.1 * dx, target=target)[0] < loss


@pytest.mark.parametrize("name", SUFFIX)
def test_a_zero_vector_has_no_direction_and_breaks_nothing(name):
    loss, dx = both_ways(
        backend(name), np.zeros((1, 4), np.float32), target=np.ones((1, 4), np.float32)
    )
    assert loss == 1 and np.isfinite(dx).all()


@pytest.mark.parametrize("name", SUFFIX)
def test_rows_that_are_not_selected_are_not_there(name):
    ops, (x, target) = backend(name), draw(5, 6)
    mask = np.array([False, True, True, False, True])
    loss, dx = both_ways(ops, x, target=target, mask=mask)
    short_loss, short_dx = both_ways(ops, x[mask], target=target[mask])
    assert loss == short_loss and not dx[~mask].any()
    np.testing.assert_array_equal(dx[mask], short_dx)
    with pytest.raises(ValueError, match="the mask picks 0 of 5"):
        ops.cosine.forward(x, target=target, mask=np.zeros(5, bool))
