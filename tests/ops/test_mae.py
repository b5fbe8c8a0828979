"""Absolute error: by hand, its pull, and which rows count."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend

X = np.array([[1, 2], [3, 4], [5, 9]], np.float32)
TARGET = np.array([[1, 0], [0, 4], [9, 5]], np.float32)  # errors 2, 3, 4 and 4


@pytest.mark.parametrize("name", SUFFIX)
def test_the_pull_is_the_same_from_near_and_from_far(name):
    op = backend(name).mae
    y, cache = op.forward(X, target=TARGET)
    assert y == pytest.approx(13 / 6)
    (dx,) = op.backward(np.float32(3), cache)
    np.testing.assert_allclose(dx, np.array([[0, 1], [1, 0], [-1, 1]]) / 2)


@pytest.mark.parametrize("name", SUFFIX)
def test_only_selected_rows_count(name):
    op, mask = backend(name).mae, np.array([True, False, True])
    y, cache = op.forward(X, target=TARGET, mask=mask)
    assert y == pytest.approx(10 / 4)
    (dx,) = op.backward(np.float32(4), cache)
    np.testing.assert_allclose(dx, [[0, 1], [0, 0], [-1, 1]])
    with pytest.raises(ValueError, match="the mask picks 0 of 3"):
        op.forward(X, target=TARGET, mask=np.zeros(3, bool))
