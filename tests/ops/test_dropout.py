"""Dropout: the published cipher, the right share, a mask that only knows where a value stands."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_cases import draw_for

from minidistil.ops import SUFFIX, backend, dropout
from minidistil.ops.kernels.philox import philox, philox_words
from minidistil.ops.runtime.cpu import serial
from minidistil.ops.runtime.dropout_key import DropoutKey

ONES = 0xFFFFFFFF
# kat_vectors of Random123 (Salmon et al.): counter, key, result of philox4x32-10
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
numbers = st.integers(0, ONES)


@serial
def words_on_cpu(c0, c1, c2, c3, key0, key1):
    return philox_words(c0, c1, c2, c3, key0, key1)


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_known_answers(counter, key, expected):
    assert tuple(int(w) for w in philox(*counter, *key)) == expected
    assert words_on_cpu(*map(np.uint32, (*counter, *key))) == expected


def mask_of(name, key, C):
    """What dropout does to ones."""
    y, _ = backend(name).dropout.forward(np.ones((len(key.column), C), np.float32), key=key)
    return y


@given(
    p=st.floats(0, 0.95), seed=numbers, step=numbers, site=numbers, first=st.integers(0, 2**31),
    C=st.integers(1, 21),
)  # fmt: skip
def test_every_backend_draws_the_same(p, seed, step, site, first, C):
    key = draw_for((3, 1, 4), p, site, seed, step, first)
    one, two = (mask_of(name, key, C) for name in SUFFIX)
    np.testing.assert_array_equal(one != 0, two != 0)
    np.testing.assert_allclose(one, two, rtol=1e-6)


@given(lengths=st.lists(st.integers(1, 8), min_size=2, max_size=6), cut=st.integers(1, 5))
def test_packing_and_micro_batches_change_nothing(lengths, cut):
    """Two halves of a batch draw what the whole draws, and so does a batch in another order."""
    cut, C = min(cut, len(lengths) - 1), 5
    rows = sum(lengths[:cut])
    whole = draw_for(lengths)
    halves = draw_for(lengths[:cut]), draw_for(lengths[cut:], first_sequence=2 + cut)
    order = np.random.default_rng(cut).permutation(sum(lengths))
    moved = whole._replace(sequence=whole.sequence[order], column=whole.column[order])
    for name in SUFFIX:
        mask = mask_of(name, whole, C)
        for part, half in zip((mask[:rows], mask[rows:]), halves, strict=True):
            np.testing.assert_array_equal(mask_of(name, half, C), part)
        np.testing.assert_array_equal(mask_of(name, moved, C), mask[order])
        # more channels do not disturb those that were there
        np.testing.assert_array_equal(mask_of(name, whole, C + 9)[:, :C], mask)


@pytest.mark.parametrize("name", SUFFIX)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_share_and_scale(name, p):
    key = draw_for((200, 100), p)
    y = mask_of(name, key, 40)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-6)
    assert abs((y != 0).mean() - (1 - p)) <= 4 * np.sqrt(p * (1 - p) / y.size)


@pytest.mark.parametrize("field", ["seed", "step", "site", "sequence", "column"])
def test_every_coordinate_matters(field):
    """And no two channels, columns or sequences share their draws."""
    key = draw_for((40,), p=0.5)
    one = dropout.mask(key, 40) != 0
    two = dropout.mask(key._replace(**{field: getattr(key, field) + 1}), 40) != 0
    assert 0.4 < (one == two).mean() < 0.6 or field == "column"
    if field == "column":  # the next column's draws are those of the next row
        np.testing.assert_array_equal(one[1:], two[:-1])
    for axis in (one, one.T):
        assert all(0.1 < (a == b).mean() < 0.9 for a, b in pairwise(axis))


@pytest.mark.parametrize("name", SUFFIX)
def test_backward_goes_where_forward_went(name):
    ops, key = backend(name), draw_for((9, 8))
    x, dy = np.random.default_rng(0).normal(size=(2, 17, 7)).astype(np.float32)
    y, cache = ops.dropout.forward(x, key=key)
    (dx,) = ops.dropout.backward(dy, cache)
    np.testing.assert_allclose(dx / dy, y / x, rtol=1e-6)
    assert isinstance(cache, DropoutKey)  # the mask is drawn again, not stored
