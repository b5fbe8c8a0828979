"""Linear and GELU in int8: GELU of what the linear gives, wider than a strip and narrower."""

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
    rng, ops = np.random.default_rng(O), backend(name, "int8")
    args = [rng.normal(size=s).astype(np.float32) for s in ((N, 65), (O, 65), (O,))]
    y, cache = ops.linear_gelu.forward(*args, approximate=form)
    assert cache is None
    h, _ = ops.linear.forward(*args)
    np.testing.assert_allclose(y, ops.gelu.forward(h, approximate=form)[0], rtol=1e-6, atol=1e-6)


def test_it_has_no_gradient():
    with pytest.raises(ValueError, match="int8"):
        backend("cpu", "int8").linear_gelu.backward(np.zeros((1, 1), np.float32), None)
