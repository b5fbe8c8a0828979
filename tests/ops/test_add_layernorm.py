"""Residual and LayerNorm: both terms get one gradient, and nothing is kept that nobody needs."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend


def arguments(N=7, C=12):
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) for s in ((N, C), (N, C), (C,), (C,))]


@pytest.mark.parametrize("name", SUFFIX)
def test_both_terms_get_the_gradient_of_their_sum(name):
    ops, (x, z, gamma, beta) = backend(name), arguments()
    y, cache = ops.add_layernorm.forward(x, z, gamma, beta, eps=1e-5)
    plain, plain_cache = ops.layernorm.forward(x + z, gamma, beta, eps=1e-5)
    np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-6)
    dy = arguments()[0][::-1].copy()
    dx, dz, *_ = ops.add_layernorm.backward(dy, cache)
    np.testing.assert_array_equal(dx, dz)
    np.testing.assert_allclose(dx, ops.layernorm.backward(dy, plain_cache)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SUFFIX)
def test_without_a_backward_nothing_is_kept_and_nothing_changes(name):
    op, args = backend(name).add_layernorm, arguments()
    y, cache = op.forward(*args, keep=False)
    np.testing.assert_array_equal(y, op.forward(*args)[0])
    assert cache is None
