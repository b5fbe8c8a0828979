"""The matrix-product kernels: every edge, every layout, the same bits on any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import compare_product

from minidistil.ops import frugal
from minidistil.ops.kernels import packing
from minidistil.ops.kernels.matmul import DEEP, MC, SLAB, blocked, matmul, product
from minidistil.ops.kernels.packing import KC
from minidistil.ops.kernels.register_tile import MR, NR, tile_heights, tile_shape
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import threads

pytestmark = pytest.mark.usefixtures("unit")

LAYOUTS = ("rows", "transposed", "reversed", "every other", "from a wider one")


def arrange(x, layout):
    """The same matrix in another place: a view that is laid out as said."""
    rows, columns = x.shape
    if layout == "transposed":
        return np.ascontiguousarray(x.T).T
    if layout == "reversed":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    if layout == "every other":
        wide = np.full((2 * rows, 3 * columns), np.nan, np.float32)
        wide[::2, ::3] = x
        return wide[::2, ::3]
    if layout == "from a wider one":
        wide = np.full((rows + 3, columns + 5), np.nan, np.float32)
        wide[3:, 2:-3] = x
        return wide[3:, 2:-3]
    return x


def normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def check(a, b):
    c = matmul(a, b)
    assert c.dtype == np.float32 and c.flags.c_contiguous
    compare_product("product", c, a @ b, a, b)
    return c


def around(tile):
    return sorted({1, tile - 1, tile, tile + 1, 2 * tile + 1})


@pytest.mark.parametrize("K", [1, 3, 4, 5, 61])
def test_sizes_around_a_tile(K):
    rng = np.random.default_rng(K)
    for M in around(MR):
        for N in around(NR):
            check(normal(rng, M, K), normal(rng, K, N))


@pytest.mark.parametrize("K", [KC - 1, KC, KC + 1, 2 * KC + 3, 4 * KC + 1])
def test_lengths_of_the_sum_around_a_block(K):
    rng = np.random.default_rng(K)
    check(normal(rng, MR + 1, K), normal(rng, K, NR + 1))
    check(normal(rng, 2, K), normal(rng, 2, K).T)


@pytest.mark.parametrize("M, N", [(2 * MC * MR + 3, 5), (5, SLAB * NR + NR + 1)])
def test_more_than_one_block_of_rows_or_slab_of_columns(M, N):
    rng = np.random.default_rng(M)
    check(normal(rng, M, KC + 2), normal(rng, KC + 2, N))


@pytest.mark.parametrize("M, K, N", [(1, 5, 3), (MR + 1, KC + 3, NR + 1), (70, 2 * KC, 45)])
def test_a_bias_is_added_once_and_a_sum_goes_on(M, K, N):
    rng = np.random.default_rng(M)
    a, b, bias, c = (normal(rng, *s) for s in ((M, K), (K, N), (N,), (M, N)))
    compare_product("bias", matmul(a, b, bias=bias), a @ b + bias, a, b, bias)
    out = c.copy()
    assert matmul(a, b, out=out, add=True) is out
    compare_product("sum", out, c + a @ b, a, b, c)


# ---------------------------------------------------------------- weights that stay


def frozen(x):
    x.flags.writeable = False
    return x


def test_a_frugal_product_keeps_no_panels():
    rng = np.random.default_rng(0)
    x, weight = normal(rng, 9, 30), frozen(normal(rng, 40, 30))
    before = dict(packing.kept)
    with frugal():
        for _ in range(3):
            matmul(x, weight.T)
    assert packing.kept == before


def test_panels_of_a_frozen_weight_are_kept_from_the_second_use_on_and_die_with_it():
    rng = np.random.default_rng(0)
    x, weight = normal(rng, 9, 300), frozen(normal(rng, 40, 300))
    before = dict(packing.kept)
    first, second = matmul(x, weight.T), matmul(x, weight.T)
    (kept,) = (p for key, p in packing.kept.items() if key not in before)
    third = matmul(x, weight.T)
    np.testing.assert_array_equal([second, third], [first, first])
    getattr(kept, "tiles", kept)[:] = 0  # so the panels are what a further product reads
    assert not matmul(x, weight.T).any()
    del weight
    assert packing.kept == before


def test_what_can_be_written_to_is_packed_anew():
    rng = np.random.default_rng(0)
    x, weight = normal(rng, 9, 30), normal(rng, 40, 30)
    before = dict(packing.kept)
    for scale in (1, 2, 4):
        check(x, weight.T)
        weight *= scale
    half = frozen(weight)[:20]  # a view: the rest of the array may be written by others
    for _ in range(3):
        check(x, half.T)
    assert packing.kept == before


def test_numpy_can_be_asked_for_the_product():
    rng = np.random.default_rng(0)
    a, b, bias, c = (normal(rng, *s) for s in ((70, 90), (90, 33), (33,), (70, 33)))
    with product("numpy"):
        np.testing.assert_array_equal(matmul(a, b, bias=bias), a @ b + bias)
        np.testing.assert_array_equal(matmul(a, b, out=c.copy(), add=True), c + a @ b)
    with pytest.raises(ValueError, match="must be one of own, numpy, not 'mkl'"), product("mkl"):
        pass


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_layouts_change_no_bit(left, right):
    rng = np.random.default_rng(0)
    a, b = normal(rng, 3 * MR + 2, KC + 11), normal(rng, KC + 11, 2 * NR + 3)
    np.testing.assert_array_equal(matmul(arrange(a, left), arrange(b, right)), check(a, b))


def test_broadcast_views():
    rng = np.random.default_rng(0)
    row, column = normal(rng, 1, 19), normal(rng, 19, 1)
    check(np.broadcast_to(row, (17, 19)), np.broadcast_to(column, (19, 23)))


@pytest.mark.parametrize(
    "M, K, N", [(1, 300, 997), (997, 300, 1), (130, 600, 250), (5, 2000, 7), (331, 40, 67)]
)
def test_threads_change_no_bit(M, K, N):
    rng = np.random.default_rng(M)
    a, b = normal(rng, M, K), normal(rng, N, K).T
    with threads(1):
        alone = check(a, b)
    with threads(2):
        np.testing.assert_array_equal(matmul(a, b), alone)


@pytest.mark.parametrize("M", range(1, 3 * MR + 2))
def test_rows_alone_and_among_others_have_the_same_bits(M):
    """Few rows take another tile height, and another order of blocks, than many."""
    rng = np.random.default_rng(M)
    a, b = normal(rng, 5 * MR, DEEP + KC + 3), normal(rng, DEEP + KC + 3, NR + 2)
    np.testing.assert_array_equal(matmul(a[:M], b), matmul(a, b)[:M])


@pytest.mark.parametrize("M, K, N", [(1, 1, 1), (MR + 1, KC + 5, NR + 1), (40, 2 * KC + 9, 50),
                                     (3 * MR + 1, DEEP + KC + 3, NR)])  # fmt: skip
def test_the_sum_runs_in_the_order_of_the_specification(M, K, N):
    """Integers of eleven bits: products are exact, sums round, so the order shows in the bits."""
    if amx.in_use():
        pytest.skip("another order: test_amx_matmul.py")
    rng = np.random.default_rng(M)
    a, b = (rng.integers(-2047, 2048, s).astype(np.float32) for s in ((M, K), (K, N)))
    np.testing.assert_array_equal(matmul(a, b), blocked(a, b))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 80), st.integers(1, 300), st.integers(1, 80),
    st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), st.integers(0, 99),
)  # fmt: skip
def test_any_size(M, K, N, left, right, seed):
    rng = np.random.default_rng(seed)
    check(arrange(normal(rng, M, K), left), arrange(normal(rng, K, N), right))


def test_empty_operands():
    assert matmul(np.ones((0, 3), np.float32), np.ones((3, 2), np.float32)).shape == (0, 2)
    assert matmul(np.ones((2, 3), np.float32), np.ones((3, 0), np.float32)).shape == (2, 0)
    nothing = matmul(np.ones((2, 0), np.float32), np.ones((0, 3), np.float32))
    np.testing.assert_array_equal(nothing, np.zeros((2, 3), np.float32))


def test_infinities_and_nan_stay_in_their_row():
    a, b = np.ones((MR + 1, 5), np.float32), np.ones((5, NR + 1), np.float32)
    a[0, 0], a[MR, 1] = np.inf, np.nan
    c = matmul(a, b)
    assert np.isposinf(c[0]).all() and np.isnan(c[MR]).all()
    np.testing.assert_array_equal(c[1:MR], 5)


def test_out_is_written_and_nothing_around_it():
    rng = np.random.default_rng(0)
    a, b = normal(rng, MR + 1, 9), normal(rng, 9, NR + 1)
    room = np.full((MR + 5, NR + 1), 7, np.float32)
    out = room[2 : MR + 3]
    assert matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, matmul(a, b))
    assert (room[:2] == 7).all() and (room[MR + 3 :] == 7).all()


def test_operands_may_be_read_only_and_are_left_alone():
    rng = np.random.default_rng(0)
    a, b = normal(rng, 20, 30), normal(rng, 30, 40)
    before = a.copy(), b.copy()
    a.flags.writeable = b.flags.writeable = False
    check(a, b)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_other_dtypes_are_refused():
    a, b = np.ones((2, 2), np.float32), np.ones((2, 2))
    with pytest.raises(TypeError, match="not float32 times float64"):
        matmul(a, b)
    with pytest.raises(TypeError, match="not float64 times float32"):
        matmul(b, a)


def test_shapes_that_do_not_fit_are_refused():
    a = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"not \(2, 3\) times \(2, 3\)"):
        matmul(a, a)
    with pytest.raises(ValueError, match=r"not \(2, 3\) times \(3,\)"):
        matmul(a, a[0])
    with pytest.raises(ValueError, match=r"must be \(2,\), not \(3,\)"):
        matmul(a, a.T, bias=a[0])
    with pytest.raises(ValueError, match="give out"):
        matmul(a, a.T, add=True)
    for out in (
        np.empty((2, 3), np.float32),
        np.empty((2, 2)),
        np.empty((2, 4), np.float32)[:, ::2],
    ):
        with pytest.raises(ValueError, match=r"of shape \(2, 2\)"):
            matmul(a, a.T, out=out)


@pytest.mark.parametrize(
    "features, registers",
    [({"+avx512f", "+avx2"}, 32), ({"+avx2", "-avx512f"}, 16), ({"+neon"}, 32), ({""}, 16)],
)
def test_a_tile_fits_the_registers(features, registers):
    rows, columns, lanes = tile_shape(features)
    assert columns % lanes == 0
    assert (rows + 1) * (columns // lanes) + 1 <= registers
    assert 3072 % columns == 96 % rows == 0  # whole tiles fill a slab and a block
    assert sorted({*tile_heights(rows)}) == list(tile_heights(rows))
