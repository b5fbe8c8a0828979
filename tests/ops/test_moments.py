"""Moments: a constant has no variance, and a shift moves the mean alone."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend

X = np.array([[1, 2, 6], [4, 4, 4]], np.float32)


@pytest.mark.parametrize("name", SUFFIX)
def test_by_hand(name):
    y, _ = backend(name).moments.forward(X)
    np.testing.assert_allclose(y, [[3, 4], [14 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_a_shift_moves_the_mean_alone(name):
    op = backend(name).moments
    (mean, variance), _ = op.forward(X)
    (later, same), _ = op.forward(X + np.float32(8))
    np.testing.assert_allclose(later, mean + 8, rtol=1e-6)
    np.testing.assert_allclose(same, variance, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_the_variance_pulls_away_from_the_mean(name):
    op = backend(name).moments
    _, cache = op.forward(X)
    (dx,) = op.backward(np.array([[0, 0], [1, 1]], np.float32), cache)
    np.testing.assert_allclose(dx, [[-4 / 3, -2 / 3, 2], [0, 0, 0]], rtol=1e-6, atol=1e-7)
