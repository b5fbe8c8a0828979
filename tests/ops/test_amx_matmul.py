"""Products on AMX. Without AMX here, the same loops run in Python on tiles in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidistil.ops import gelu, linear_bf16, linear_gelu_bf16, linear_int8
from minidistil.ops.kernels import activation, amx_linear, amx_matmul, amx_products, amx_reference
from minidistil.ops.kernels.amx_matmul import DEEPEST
from minidistil.ops.kernels.amx_products import After
from minidistil.ops.kernels.amx_reference import tdpbf16ps
from minidistil.ops.kernels.amx_rows import PackedRows
from minidistil.ops.kernels.amx_tile import BF16, FORMATS, HIGH, HIGHEST, SIDE
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import threads
from minidistil.testing import rms

SIZES = [(1, 1, 1), (15, 31, 17), (16, 32, 16), (17, 33, 15), (33, 65, 31), (31, 97, 33),
         (64, 768, 70), (40, 801, 33)]  # fmt: skip
KINDS = {"high": HIGH, "highest": HIGHEST}
has_amx = pytest.mark.skipif(bool(amx.refusal()), reason=amx.refusal())


@pytest.fixture(params=["amx", "numpy"])
def unit(request, monkeypatch):
    """The processor's tiles, or those in NumPy under the loops of `amx_matmul.compute`."""
    if request.param == "numpy":
        registers = amx_reference.Registers()
        for name in ("clear", "advance", "store"):
            monkeypatch.setattr(amx_matmul, name, getattr(registers, name))
        for name in ("configure", "release", "fetch_lines"):
            monkeypatch.setattr(amx_matmul, name, lambda *operands: None)

        def multiply(workers, job):
            for t in range(workers):
                amx_matmul.compute.py_func(t, workers, job)

        for module in (amx_linear, amx_products):
            monkeypatch.setattr(module, "multiply", multiply)
        monkeypatch.setattr(amx, "in_use", lambda: True)
    elif amx.refusal():
        pytest.skip(amx.refusal())
    return request.param


def normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def nearest(x):
    """float32 -> bfloat16, ties away from zero."""
    return ((x.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)


def parts_of(x, kind):
    """x  ->  its bfloat16 parts, as `amx_panels.py` says."""
    if kind == BF16:
        return [round_bf16(x)]
    rest, parts = x * np.float32(2**24), []
    for _ in range(FORMATS[kind].parts):
        parts.append(nearest(rest))
        rest = rest - parts[-1]
    assert kind != HIGHEST or not rest.any()
    return parts


def specified(kind, a, b, c):
    """c + a·b with the sums in their order: blocks of steps from zero, small products first."""
    a, b = parts_of(a, kind), parts_of(b, kind)
    K, deepest = b[0].shape[0], 32 * DEEPEST[kind]
    for first in range(0, K, deepest):
        total = np.zeros(c.shape, np.float32)
        for products in FORMATS[kind].passes:
            for k in range(first, min(first + deepest, K), 32):
                for p, q in products:
                    left, right = a[p][:, k : k + 32], b[q][k : k + 32]
                    more = 32 - left.shape[1]
                    left, right = (
                        np.pad(left, ((0, 0), (0, more))),
                        np.pad(right, ((0, more), (0, 0))),
                    )
                    total = tdpbf16ps(total, left, right)
        scale = 1.0 if kind == BF16 else 2.0**-48
        c = np.float32(total.astype(np.float64) * scale + c)
    return c


def product(kind, a, b, **options):
    out = np.zeros((len(a), b.shape[1]), np.float32)
    how = {"bias": None, "add": False, "form": activation.NO_GELU, "into": out} | options
    amx_products.product(kind, a, b, out, After(**how), None)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_sum_is_in_the_order_of_the_specification(unit, size, kind):
    M, K, N = size
    a, b, bias = normal(K, (M, K), (K, N), (N,))
    found = product(KINDS[kind], a, b, bias=bias)
    np.testing.assert_array_equal(found, specified(KINDS[kind], a, b, np.tile(bias, (M, 1))))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_linear_in_bfloat16_too(unit, size):
    N, I, O = size
    x, weight, bias = normal(I, (N, I), (O, I), (O,))
    y, _ = linear_bf16.forward_cpu(x, weight, bias)
    np.testing.assert_array_equal(y, specified(BF16, x, weight.T, np.tile(bias, (N, 1))))


@pytest.mark.parametrize("form", activation.FORMS)
@pytest.mark.parametrize("size", [*SIZES, (33, 40, 97)], ids=str)
def test_rows_that_are_packed_where_they_arise(unit, size, form):
    """They are what the next linear layer rounds, and give what it gives, bit by bit. GELU itself
    is as accurate as what is rounded to 8 bits needs."""
    N, I, O = size
    x, weight, bias, following, shift = normal(I, (N, I), (O, I), (O,), (I, O), (I,))
    x[0, 0], weight[-1] = np.nan, 1e-39  # a row of NaN, a column of small numbers
    options, found = {"approximate": form, "for_linear": True}, {}
    for packs in (False, True):
        y, _ = linear_gelu_bf16.forward_cpu(x, weight, bias, keep=not packs, **options)
        assert isinstance(y, PackedRows) == packs and y.shape == (N, O)
        found[packs] = y, linear_bf16.forward_cpu(y, following, shift)[0]
    (y, product), (rows, same) = found[False], found[True]
    np.testing.assert_array_equal(np.asarray(rows), round_bf16(y))
    np.testing.assert_array_equal(product, same)
    exact, _ = linear_gelu_bf16.forward_cpu(x, weight, bias, approximate=form, keep=False)
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=2**-14 if form == "none" else 1e-6)
    with amx.without_amx():  # they are an array to everything else
        of_rows, of_array = (
            linear_gelu_bf16.forward_cpu(z, following, shift, keep=False, **options)[0]
            for z in (rows, np.asarray(rows))
        )
        np.testing.assert_array_equal(of_rows, of_array)


@has_amx
def test_packed_rows_do_not_depend_on_threads():
    """65 panels of rows: more than are near at a time, for one worker and for two."""
    x, weight, bias, following, shift = normal(0, (2065, 96), (200, 96), (200,), (96, 200), (96,))
    found = []
    for count in (1, 2):
        with threads(count):
            y, _ = linear_gelu_bf16.forward_cpu(x, weight, bias, keep=False, for_linear=True)
            found.append((np.asarray(y), linear_bf16.forward_cpu(y, following, shift)[0]))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(
        found[0][1], linear_bf16.forward_cpu(*found[0][:1], following, shift)[0]
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_linear_in_int8_is_its_specification_to_the_bit(unit, size):
    N, I, O = size
    args = normal(I, (N, I), (O, I), (O,))
    np.testing.assert_array_equal(linear_int8.forward_cpu(*args)[0], linear_int8.forward(*args)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_sums_that_are_added_to_and_gelu(unit, kind):
    kind = KINDS[kind]
    a, b, c, bias = normal(0, (40, 70), (70, 37), (40, 37), (37,))
    plain = product(kind, a, b)
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
        for right in (b, np.asfortranarray(b), b[::-1, ::-1].copy()[::-1, ::-1]):
            np.testing.assert_array_equal(product(kind, left, right), plain)
    out = c.copy()
    amx_products.product(kind, a, b, out, After(bias, True, activation.NO_GELU, out), None)
    np.testing.assert_array_equal(out, c + product(kind, a, b, bias=bias))
    for name in activation.FORMS:
        g = np.empty_like(c)
        h = product(kind, a, b, bias=bias, form=activation.CODES[name], into=g)
        np.testing.assert_array_equal(h, product(kind, a, b, bias=bias))
        np.testing.assert_allclose(g, gelu.forward(h, approximate=name)[0], rtol=1e-6, atol=1e-6)


@has_amx
@pytest.mark.parametrize("size", [(1, 300, 997), (997, 300, 1), (130, 1600, 250)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_neighbours_change_no_bit(kind, size):
    M, K, N = size
    a, b = normal(0, (M, K), (K, N))
    with threads(1):
        alone = product(KINDS[kind], a, b)
    with threads(2):
        np.testing.assert_array_equal(product(KINDS[kind], a, b), alone)
    np.testing.assert_array_equal(product(KINDS[kind], a[M // 2 :], b), alone[M // 2 :])


@has_amx
@pytest.mark.parametrize("K", [64, 768, 3072])
@pytest.mark.parametrize("spread", ["normal", "rows", "columns"])
def test_more_exact_than_a_float32_product(K, spread):
    rng = np.random.default_rng(K)
    a, b = normal(K, (96, K), (K, 96))
    if spread == "rows":
        a *= np.float32(10) ** rng.uniform(-6, 6, (96, 1)).astype(np.float32)
    if spread == "columns":
        wide = np.float32(10) ** rng.uniform(-3, 3, K).astype(np.float32)
        a, b = a * wide, b / wide[:, None]
    right = a.astype(np.float64) @ b
    size = np.sqrt(np.mean(right**2, axis=1, keepdims=True))
    error = {name: rms((product(kind, a, b) - right) / size) for name, kind in KINDS.items()}
    plain = rms((a @ b - right) / size)
    assert error["highest"] < 0.6 * plain < plain < error["high"] < 60 * plain


# ---------------------------------------------------------------- numbers that are not ordinary


def both(a, b, **options):
    """The product with AMX and without."""
    with np.errstate(all="ignore"):
        with_amx = matmul(a, b, **options)
        with amx.without_amx():
            return with_amx, matmul(a, b, **options)


@has_amx
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38, -(2.0**32), 1e30])
@pytest.mark.parametrize("side", ["left", "right"])
def test_large_numbers_infinities_and_nan_come_out_as_in_float32(side, value):
    a, b, bias = normal(0, (70, 90), (90, 75), (75,))
    a[40, 3], b[5, 3] = (value, 2) if side == "left" else (3e38, value)
    found, expected = both(a, b, bias=bias)
    np.testing.assert_array_equal(found[32:64], expected[32:64])  # of the panel: the same kernel
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.isfinite(np.delete(np.delete(found, 40, 0), 3, 1)).all()


@has_amx
def test_wide_panels_on_both_sides_with_a_sum_and_gelu():
    a, b, c, bias = normal(0, (70, 90), (90, 75), (70, 75), (75,))
    a[69, 0], b[0, 0] = np.inf, np.nan
    sums = [c.copy(), c.copy()]
    for out, off in zip(sums, (False, True), strict=True):
        with amx.without_amx(off), np.errstate(all="ignore"):
            matmul(a, b, out=out, add=True, bias=bias)
    np.testing.assert_allclose(*sums, rtol=1e-4, atol=1e-4)
    into = [np.empty_like(c), np.empty_like(c)]
    for g, off in zip(into, (False, True), strict=True):
        with amx.without_amx(off), np.errstate(all="ignore"):
            matmul(a, b, bias=bias, gelu="none", into=g)
    np.testing.assert_allclose(*into, rtol=1e-4, atol=1e-4)
    in_place = matmul(a, b, bias=bias, gelu="none")
    np.testing.assert_array_equal(in_place, into[0])


@has_amx
def test_subnormal_numbers_are_numbers():
    """Parts of them, products of small numbers, and sums that are subnormal: one rounding each."""
    a, b = normal(0, (40, 64), (64, 40))
    for left, right in [(-149, 20), (-140, 0), (-126, 10), (-70, -70), (-110, 100), (-120, -20)]:
        small, other = np.ldexp(a, left), np.ldexp(b, right)
        exact = small.astype(np.float64) @ other.astype(np.float64)
        found, expected = both(small, other)
        assert np.abs(found - exact).max() <= np.abs(expected - exact).max() + 2.0**-149
        assert found.any() == expected.any()


@has_amx
@settings(max_examples=40)
@given(st.integers(1, 100), st.integers(1, 900), st.integers(1, 100), st.integers(0, 99))
def test_any_size(M, K, N, seed):
    a, b = normal(seed, (M, K), (K, N))
    size = np.abs(a).astype(np.float64) @ np.abs(b)
    right = a.astype(np.float64) @ b
    for name, allowed in (("highest", 2e-7), ("high", 4e-5)):
        assert (np.abs(product(KINDS[name], a, b) - right) <= allowed * size).all()


def test_the_edges_of_the_blocks(unit):
    """Two blocks of rows that are near at a time, with numbers of few bits: exact sums."""
    rng = np.random.default_rng(0)
    M = SIDE * (amx_matmul.near_panels(HIGHEST, 700, 10**6) + 1) + 1
    a, b = (rng.integers(-9, 10, s).astype(np.float32) for s in ((M, 700), (700, 33)))
    np.testing.assert_array_equal(product(HIGHEST, a, b), a @ b)
