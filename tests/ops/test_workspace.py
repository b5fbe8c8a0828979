"""Recycled memory: used again when nobody sees it any more, and never before."""

import gc
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidistil.ops.runtime.workspace import (
    LINE,
    SMALL,
    Workspace,
    empty,
    empty_like,
    owns_memory,
    zeros,
)


def address(x):
    return x.__array_interface__["data"][0]


def test_memory_goes_round():
    with Workspace() as workspace:
        first = address(empty((300, 400)))
        held = workspace.nbytes
        assert address(empty((400, 300))) == first
        assert workspace.nbytes == held


def test_what_a_view_still_shows_is_kept():
    with Workspace():
        x = zeros((300, 400))
        view = x.reshape(400, 300)[::7].T
        del x
        empty((300, 400))[:] = 1
        assert not view.any()


def test_an_array_owns_its_memory_and_a_view_of_it_does_not():
    with Workspace():
        x = empty((300, 400))
        assert owns_memory(x) and owns_memory(np.empty(3))
        assert x.T.base is x and not owns_memory(x.T) and not owns_memory(x[1:])


def test_arrays_outlive_the_workspace():
    with Workspace():
        x = zeros((300, 400))
    with Workspace():
        empty((300, 400))[:] = 1
    gc.collect()
    assert not x.any()


def test_outside_arrays_are_fresh_and_own_their_memory():
    x, y = empty((300, 400)), empty((300, 400))
    assert not np.shares_memory(x, y)
    assert owns_memory(x) and x.base.nbytes == x.nbytes + LINE
    with Workspace():
        assert empty(SMALL // 4 - 1).base is None


@pytest.mark.parametrize("inside", [Workspace, nullcontext])
def test_arrays_begin_on_a_cache_line_and_look_like_numpys(inside):
    with inside():
        for shape, dtype in (
            ((300, 401), np.float32),
            ((70_001,), np.float64),
            ((9, 99, 99), "i2"),
        ):
            x = zeros(shape, dtype)
            assert address(x) % LINE == 0
            assert x.shape == shape and x.dtype == dtype and x.flags.carray and not x.any()
    turned = np.asfortranarray(np.ones((300, 400)))
    assert empty_like(turned).flags.c_contiguous


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60_000), st.booleans()), min_size=1, max_size=30))
def test_living_arrays_never_overlap(wishes):
    living = []
    with Workspace() as workspace:
        for i, (size, drop) in enumerate(wishes):
            x = empty(SMALL + size, np.uint8)
            x[:] = i
            living.append((i, x))
            if drop:
                living.pop(len(living) // 2)
            assert all((y == j).all() for j, y in living)
        assert workspace.nbytes <= 1.13 * sum(SMALL + LINE + size for size, _ in wishes) + LINE
