"""Squared error: what each reduction divides by, and which rows count."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend

X = np.array([[1, 2], [3, 4], [5, 9]], np.float32)
TARGET = np.array([[1, 0], [0, 4], [5, 5]], np.float32)  # squared errors 4, 9 and 16


@pytest.mark.parametrize("name", SUFFIX)
@pytest.mark.parametrize("reduction, n", [("mean", 6), ("batchmean", 3), ("sum", 1)])
def test_reductions(name, reduction, n):
    ops = backend(name)
    y, cache = ops.mse.forward(X, target=TARGET, reduction=reduction)
    assert y == pytest.approx(29 / n)
    (dx,) = ops.mse.backward(np.float32(1), cache)
    np.testing.assert_allclose(dx, 2 * (X - TARGET) / n, rtol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_only_selected_rows_count(name):
    ops, mask = backend(name), np.array([True, False, True])
    y, cache = ops.mse.forward(X, target=TARGET, mask=mask)
    assert y == pytest.approx(20 / 4)
    (dx,) = ops.mse.backward(np.float32(1), cache)
    np.testing.assert_allclose(dx, [[0, 1], [0, 0], [0, 2]])


@pytest.mark.parametrize("name", SUFFIX)
def test_what_cannot_be_computed_is_refused(name):
    ops = backend(name)
    with pytest.raises(ValueError, match="batchmean, mean, sum, not 'average'"):
        ops.mse.forward(X, target=TARGET, reduction="average")
    with pytest.raises(ValueError, match="the mask picks 0 of 3"):
        ops.mse.forward(X, target=TARGET, mask=np.zeros(3, bool))
