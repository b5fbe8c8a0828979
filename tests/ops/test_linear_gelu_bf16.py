"""Linear and GELU in bfloat16: GELU of what the linear gives, wider than a strip and narrower."""

import numpy as np
import pytest

from minidistil.ops import backend
from minidistil.ops.kernels.activation import FORMS
from minidistil.ops.kernels.matmul import STRIP
from minidistil.ops.kernels.register_tile import MR, NR

pytestmark = pytest.mark.usefixtures("unit")


@pytest.mark.parametrize("name", ["numpy", "cpu"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("N, O", [(1, 3), (MR + 1, STRIP * NR + 1), (70, 2 * STRIP * NR)])
def test_it_is_gelu_of_the_linear(name, form, N, O):
    rng, ops = np.random.default_rng(O), backend(name, "bfloat16")
    args = [rng.normal(size=s).astype(np.float32) for s in ((N, 65), (O, 65), (O,))]
    y, cache = ops.linear_gelu.forward(*args, approximate=form, keep=False)
    assert cache is None
    h, _ = ops.linear.forward(*args)
    np.testing.assert_allclose(y, ops.gelu.forward(h, approximate=form)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["numpy", "cpu"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("N, O", [(1, 3), (MR + 1, STRIP * NR + 1), (37, 70)])
def test_its_gradient_is_that_of_the_two(name, form, N, O):
    rng, ops = np.random.default_rng(O), backend(name, "bfloat16")
    args = [rng.normal(size=s).astype(np.float32) for s in ((N, 65), (O, 65), (O,))]
    dy = rng.normal(size=(N, O)).astype(np.float32)
    y, cache = ops.linear_gelu.forward(*args, approximate=form)
    inference, _ = ops.linear_gelu.forward(*args, approximate=form, keep=False)
    np.testing.assert_allclose(y, inference, rtol=1e-6, atol=1e-6)
    h, product = ops.linear.forward(*args)
    np.testing.assert_allclose(cache[1][0], h, rtol=1e-6, atol=1e-6)
    (dh,) = ops.gelu.backward(dy, (cache[1][0], form))
    grads = ops.linear_gelu.backward(dy, cache)
    for mine, expected in zip(grads, ops.linear.backward(dh, product), strict=True):
        np.testing.assert_array_equal(mine, expected)
