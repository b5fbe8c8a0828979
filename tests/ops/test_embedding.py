"""Embedding: repeated ids add up, a padding row is looked up but not trained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend


@pytest.mark.parametrize("name", SUFFIX)
def test_repeats_add_up_and_the_rest_is_zero(name):
    ops, ids = backend(name), np.array([4, 1, 4, 4, 0])
    y, cache = ops.embedding.forward(np.eye(6, 3, dtype=np.float32), ids=ids)
    np.testing.assert_array_equal(y, np.eye(6, 3)[ids])
    (dtable,) = ops.embedding.backward(np.ones((5, 3), np.float32), cache)
    np.testing.assert_array_equal(dtable[:, 0], [1, 1, 0, 0, 3, 0])


@pytest.mark.parametrize("name", SUFFIX)
def test_a_padding_row_is_not_trained(name):
    ops, ids = backend(name), np.array([2, 0, 2])
    table = np.arange(9, dtype=np.float32).reshape(3, 3)
    y, cache = ops.embedding.forward(table, ids=ids, padding_id=2)
    np.testing.assert_array_equal(y[0], table[2])
    (dtable,) = ops.embedding.backward(np.ones((3, 3), np.float32), cache)
    np.testing.assert_array_equal(dtable, [[1, 1, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("name", SUFFIX)
def test_a_gradient_from_elsewhere_is_added_to(name):
    ops, ids = backend(name), np.array([2, 0, 2, 1])
    _, cache = ops.embedding.forward(np.eye(4, 3, dtype=np.float32), ids=ids, padding_id=1)
    head = np.full((4, 3), 7, np.float32)  # of a head that shares the table
    (dtable,) = ops.embedding.backward(np.ones((4, 3), np.float32), cache._replace(add_to=head))
    assert dtable is head
    np.testing.assert_array_equal(dtable[:, 0], [8, 7, 9, 7])


@given(ids=st.lists(st.integers(0, 9), min_size=1, max_size=60), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_tokens_only_moves_rows(ids, seed):
    """Small whole numbers, so that sums are exact and bits can be compared."""
    rng = np.random.default_rng(seed)
    ids, order = np.array(ids), rng.permutation(len(ids))
    dy = rng.integers(-50, 50, (len(ids), 4)).astype(np.float32)
    for ops in map(backend, SUFFIX):
        table = rng.normal(size=(10, 4)).astype(np.float32)
        y, cache = ops.embedding.forward(table, ids=ids)
        moved, moved_cache = ops.embedding.forward(table, ids=ids[order])
        np.testing.assert_array_equal(moved, y[order])
        (dtable,) = ops.embedding.backward(dy, cache)
        np.testing.assert_array_equal(ops.embedding.backward(dy[order], moved_cache)[0], dtable)
        np.testing.assert_array_equal(dtable.sum(axis=0), dy.sum(axis=0))
