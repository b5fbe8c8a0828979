"""LayerNorm: blind to a row's shift and stretch, so its gradient has neither direction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend


def draw(N, C, seed=0, mean=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, scale, (N, C))
    return [a.astype(np.float32) for a in (x, rng.normal(1, 0.5, C), rng.normal(0, 1, C))]


@pytest.mark.parametrize("name", SUFFIX)
def test_dx_has_no_mean_and_nothing_along_xhat(name):
    ops = backend(name)
    x, gamma, beta = draw(19, 24)
    y, cache = ops.layernorm.forward(x, gamma, beta)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    dx, _, _ = ops.layernorm.backward(dy, cache)
    xhat = (y - beta) / gamma
    np.testing.assert_allclose(dx.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose((dx * xhat).mean(axis=1), 0, atol=2e-6)


@given(seed=st.integers(0, 2**32 - 1), C=st.integers(2, 40), stretch=st.sampled_from([0.25, 2, 8]))
def test_a_stretched_row_gives_the_same(seed, C, stretch):
    """Powers of two, and no ε: every bit is the same."""
    x, gamma, beta = draw(3, C, seed)
    for ops in map(backend, SUFFIX):
        y, _ = ops.layernorm.forward(x, gamma, beta, eps=0.0)
        stretched, _ = ops.layernorm.forward(x * np.float32(stretch), gamma, beta, eps=0.0)
        np.testing.assert_array_equal(stretched, y)


@pytest.mark.parametrize("name", SUFFIX)
def test_rows_have_mean_beta_and_spread_gamma(name):
    x, _, _ = draw(11, 64, mean=5, scale=3)
    gamma, beta = np.full(64, 2, np.float32), np.full(64, 7, np.float32)
    y, _ = backend(name).layernorm.forward(x, gamma, beta)
    np.testing.assert_allclose(y.mean(axis=1), 7, rtol=1e-6)
    np.testing.assert_allclose(y.std(axis=1), 2, rtol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_a_large_common_offset_costs_no_more_than_its_rounding(name):
    """E[x²] − μ² would lose everything here; the mean of squared differences does not."""
    x, gamma, beta = draw(7, 64)
    y, _ = backend(name).layernorm.forward(x + np.float32(4096), gamma, beta)
    rounded = (x + np.float32(4096)).astype(np.float64)
    exact, _ = backend("numpy").layernorm.forward(
        rounded, gamma.astype(np.float64), beta.astype(np.float64)
    )
    np.testing.assert_allclose(y, exact, atol=2e-3)


@pytest.mark.parametrize("name", SUFFIX)
def test_a_constant_row_is_beta(name):
    _, gamma, beta = draw(1, 8)
    y, _ = backend(name).layernorm.forward(np.full((2, 8), 3, np.float32), gamma, beta)
    np.testing.assert_allclose(y, np.broadcast_to(beta, (2, 8)), atol=1e-6)
