"""Products of rounded factors: any layout, added, with bias and GELU, as `matmul` has them."""

import numpy as np
import pytest
from rounding import compare_product

from minidistil.ops import gelu
from minidistil.ops.kernels.matmul_bf16 import matmul_bf16
from minidistil.ops.kernels.number_formats import round_bf16

pytestmark = pytest.mark.usefixtures("unit")


def normal(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


@pytest.mark.parametrize("order", ["ab", "aTb", "abT", "aTbT"])
@pytest.mark.parametrize("M, K, N", [(1, 1, 1), (17, 33, 15), (31, 64, 97), (70, 300, 33)])
def test_factors_in_any_layout(order, M, K, N):
    a, b = normal((M, K), (K, N))
    a = np.asfortranarray(a) if "aT" in order else a
    b = np.asfortranarray(b) if "bT" in order else b
    ra, rb = round_bf16(a), round_bf16(b)
    compare_product("product", matmul_bf16(a, b), ra @ rb, ra, rb)


def test_a_slice_of_columns():
    a, b = normal((20, 90), (40, 30))
    np.testing.assert_array_equal(matmul_bf16(a[:, 50:], b), matmul_bf16(a[:, 50:].copy(), b))


def test_bias_and_what_is_added_to():
    a, b, bias, c = normal((18, 45), (45, 37), (37,), (18, 37))
    ra, rb, out = round_bf16(a), round_bf16(b), c.copy()
    compare_product("bias", matmul_bf16(a, b, bias=bias), ra @ rb + bias, ra, rb, bias)
    assert matmul_bf16(a, b, out, add=True) is out
    compare_product("added", out, ra @ rb + c, ra, rb, c)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_beside_the_sums(form):
    a, b, h, g = normal((18, 45), (45, 37), (18, 37), (18, 37))
    matmul_bf16(a, b, h, gelu=form, into=g)
    np.testing.assert_array_equal(h, matmul_bf16(a, b))
    expected, _ = gelu.forward(h, approximate=form)
    np.testing.assert_allclose(g, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("M, K, N", [(0, 5, 3), (4, 0, 3), (4, 5, 0)])
def test_nothing_to_multiply(M, K, N):
    a, b = normal((M, K), (K, N))
    np.testing.assert_array_equal(matmul_bf16(a, b), np.zeros((M, N), np.float32))
