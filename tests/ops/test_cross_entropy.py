"""Cross entropy: ignored rows are not there, and without any label there is no mean."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend


def both_ways(ops, logits, **fixed):
    """loss, dlogits."""
    y, cache = ops.cross_entropy.forward(logits, **fixed)
    return y, ops.cross_entropy.backward(np.float32(1), cache)[0]


@given(seed=st.integers(0, 999), N=st.integers(1, 12), V=st.integers(1, 20))
def test_ignored_rows_are_not_there(seed, N, V):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (N, V)).astype(np.float32)
    labels = np.where(rng.random(N) < 0.5, rng.integers(0, V, N), -100)
    labels[0] = 0
    kept = labels != -100
    for ops in map(backend, SUFFIX):
        loss, d = both_ways(ops, logits, labels=labels)
        short_loss, short_d = both_ways(ops, logits[kept], labels=labels[kept])
        assert loss == short_loss >= -1e-6
        np.testing.assert_array_equal(d[kept], short_d)
        assert not d[~kept].any()
        np.testing.assert_allclose(d.sum(axis=1), 0, atol=1e-6)  # a shift of all logits is free


@pytest.mark.parametrize("name", SUFFIX)
def test_knowing_nothing_costs_the_logarithm_of_the_classes(name):
    loss, _ = both_ways(backend(name), np.zeros((3, 50), np.float32), labels=np.array([4, 0, 49]))
    assert loss == pytest.approx(math.log(50), rel=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_no_label_at_all(name):
    with pytest.raises(ValueError, match="needs a label: all 4 are -100"):
        both_ways(backend(name), np.zeros((4, 3), np.float32), labels=np.full(4, -100))
    with pytest.raises(ValueError, match="all 4 are 1"):
        both_ways(backend(name), np.zeros((4, 3), np.float32), labels=np.ones(4, int),
                  ignore_index=1)  # fmt: skip


@pytest.mark.parametrize("name", SUFFIX)
def test_logits_that_would_overflow(name):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    loss, d = both_ways(backend(name), logits, labels=np.array([0, 0]))
    assert loss == pytest.approx(1e4)
    np.testing.assert_allclose(d, [[0, 0], [-0.5, 0.5]], atol=1e-30)
