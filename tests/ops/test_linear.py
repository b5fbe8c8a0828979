"""Linear: a one-hot row picks a column of W, and layouts do not matter."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend

pytestmark = pytest.mark.usefixtures("unit")


@pytest.mark.parametrize("name", SUFFIX)
def test_one_hot_rows_pick_columns_of_the_weight(name):
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 5)).astype(np.float32), np.zeros(3, np.float32)
    y, _ = backend(name).linear.forward(np.eye(5, dtype=np.float32), weight, bias)
    np.testing.assert_array_equal(y, weight.T)
    shifted, _ = backend(name).linear.forward(np.zeros((2, 5), np.float32), weight, bias + 7)
    np.testing.assert_array_equal(shifted, np.full((2, 3), 7))


@pytest.mark.parametrize("name", SUFFIX)
def test_views_give_what_copies_give(name):
    """A slice of columns and a transposed weight: what a model hands over is not always packed."""
    ops, rng = backend(name), np.random.default_rng(1)
    wide, tall = rng.normal(size=(9, 20)), rng.normal(size=(10, 7))
    x, weight = wide[:, 3:13].astype(np.float32), tall.astype(np.float32).T
    views = wide.astype(np.float32)[:, 3:13], weight, np.ones(7, np.float32)
    copies = [np.ascontiguousarray(a) for a in views]
    assert x.flags.c_contiguous != views[0].flags.c_contiguous
    dy = rng.normal(size=(9, 7)).astype(np.float32)
    results = []
    for args in (views, copies):
        y, cache = ops.linear.forward(*args)
        results.append((y, *ops.linear.backward(dy, cache)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
