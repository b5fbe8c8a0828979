"""ReLU: what is negative passes neither forward nor backward, and 0 counts as negative."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend


@pytest.mark.parametrize("name", SUFFIX)
def test_the_kink(name):
    ops, x = backend(name), np.array([[-2, -0.0, 0, 1e-30, 3]], np.float32)
    y, cache = ops.relu.forward(x)
    np.testing.assert_array_equal(y, [[0, 0, 0, np.float32(1e-30), 3]])
    (dx,) = ops.relu.backward(np.full_like(x, 7), cache)
    np.testing.assert_array_equal(dx, [[0, 0, 0, 7, 7]])


@pytest.mark.parametrize("name", SUFFIX)
def test_infinity_passes(name):
    y, _ = backend(name).relu.forward(np.array([[np.inf, -np.inf]], np.float32))
    np.testing.assert_array_equal(y, [[np.inf, 0]])
