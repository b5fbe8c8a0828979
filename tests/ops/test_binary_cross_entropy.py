"""Binary cross entropy: two classes of softmax in disguise, without overflow."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend


@given(z=st.floats(-60, 60, width=32), label=st.integers(0, 1))
def test_it_is_cross_entropy_of_the_logits_z_and_0(z, label):
    for ops in map(backend, SUFFIX):
        loss, cache = ops.binary_cross_entropy.forward(
            np.array([[z]], np.float32), labels=np.array([[label]])
        )
        (d,) = ops.binary_cross_entropy.backward(np.float32(1), cache)
        two, two_cache = ops.cross_entropy.forward(
            np.array([[0, z]], np.float32), labels=np.array([label])
        )
        (two_d,) = ops.cross_entropy.backward(np.float32(1), two_cache)
        assert loss == pytest.approx(two, rel=1e-5, abs=1e-6)
        assert d[0, 0] == pytest.approx(two_d[0, 1], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_sure_and_wrong(name):
    """A softplus of 1e4 is 1e4; one of 0 is ln 2; labels may lie between 0 and 1."""
    ops, logits = backend(name), np.array([[1e4, -1e4, 0]], np.float32)
    loss, cache = ops.binary_cross_entropy.forward(logits, labels=np.array([[0, 1, 0.25]]))
    assert loss == pytest.approx((2e4 + math.log(2)) / 3, rel=1e-6)
    (d,) = ops.binary_cross_entropy.backward(np.float32(3), cache)
    np.testing.assert_allclose(d, [[1, -1, 0.25]], rtol=1e-6)
