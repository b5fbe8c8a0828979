"""Addition: what only the residual connection promises."""

import numpy as np
import op_checks
import pytest
from op_cases import cases_of

from minidistil.ops import SUFFIX, backend


@pytest.mark.parametrize("name", SUFFIX)
def test_the_gradient_reaches_both_terms_unchanged(name):
    ops = backend(name)
    a, b, dy = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    y, cache = ops.add.forward(a, b)
    np.testing.assert_array_equal(y, a + b)
    for gradient in ops.add.backward(dy, cache):
        np.testing.assert_array_equal(gradient, dy)


def test_backends_give_the_same_bits():
    for case in cases_of("add"):
        one, two = (op_checks.run(case, name, np.float32)["y"] for name in ("numpy", "cpu"))
        np.testing.assert_array_equal(one, two)
