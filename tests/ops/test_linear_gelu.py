"""Linear and GELU: every edge of a strip is activated once, and h is kept only for a backward."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend, gelu, linear
from minidistil.ops.kernels.activation import FORMS
from minidistil.ops.kernels.matmul import MC, SLAB, STRIP, product
from minidistil.ops.kernels.packing import KC
from minidistil.ops.kernels.register_tile import MR, NR
from minidistil.ops.runtime.cpu import threads

pytestmark = pytest.mark.usefixtures("unit")

WIDTHS = (1, NR, STRIP * NR - 1, STRIP * NR, STRIP * NR + 1, 3 * STRIP * NR + NR + 5)


def arguments(N, I, O):
    rng = np.random.default_rng(N + O)
    return [rng.normal(size=s).astype(np.float32) for s in ((N, I), (O, I), (O,))]


def composed(x, weight, bias, form):
    h, _ = linear.forward_cpu(x, weight, bias)
    return h, gelu.forward_cpu(h, approximate=form)[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("O", WIDTHS)
@pytest.mark.parametrize("N", [1, MR + 1, 2 * MC * MR + 3])
def test_it_is_gelu_of_the_linear_on_any_number_of_threads(N, O, form):
    args = arguments(N, KC + 1, O)
    h, y = composed(*args, form)
    for count in (1, 2):
        with threads(count):
            got, (_, (kept, _)) = backend("cpu").linear_gelu.forward(*args, approximate=form)
        np.testing.assert_array_equal(kept, h)
        np.testing.assert_allclose(got, y, rtol=1e-6, atol=1e-6)


def test_more_columns_than_a_slab():
    args = arguments(3, 2, SLAB * NR + 2 * NR + 1)
    got, _ = backend("cpu").linear_gelu.forward(*args)
    np.testing.assert_allclose(got, composed(*args, "none")[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_without_a_backward_nothing_is_kept_and_nothing_changes(name):
    op, args = backend(name).linear_gelu, arguments(9, 5, 7)
    y, cache = op.forward(*args, keep=False)
    np.testing.assert_array_equal(y, op.forward(*args)[0])
    assert cache is None


def test_the_product_of_numpy_is_activated_too():
    args = arguments(MR + 2, 5, NR + 3)
    with product("numpy"):
        y, _ = backend("cpu").linear_gelu.forward(*args)
    np.testing.assert_allclose(y, composed(*args, "none")[1], rtol=1e-5, atol=1e-6)
