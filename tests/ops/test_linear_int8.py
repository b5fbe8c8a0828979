"""Linear in int8: whole numbers are exact, so there is one right answer, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import linear_int8
from minidistil.ops.kernels.number_formats import (
    LARGEST,
    SMALLEST_SCALE,
    WIDTH,
    dequantize,
    quantize,
    quantize_rows,
    round_bf16,
)


def rows_of_all_scales(rng, rows, columns):
    scale = np.ldexp(1.0, rng.integers(-140, 120, (rows, 1)))
    return (rng.standard_normal((rows, columns)) * scale).astype(np.float32)


def test_half_a_step_at_most_is_lost():
    x = rows_of_all_scales(np.random.default_rng(0), 400, 37).astype(np.float64)
    q, scale = quantize(x)
    assert q.dtype == np.int8 and np.abs(q.astype(int)).max() == LARGEST
    error = np.abs(q * scale[:, None].astype(np.float64) - x)
    assert (error <= 0.5001 * scale[:, None]).all()
    fitting = np.abs(x).max(axis=1) / LARGEST
    assert (scale <= 1.01 * np.maximum(fitting, SMALLEST_SCALE)).all()


def test_what_was_quantised_is_quantised_to_the_same_bits():
    x = rows_of_all_scales(np.random.default_rng(1), 400, 9)
    q, scale = quantize(x)
    wide = dequantize(q, scale)
    exact = q * scale[:, None].astype(np.float64)
    np.testing.assert_array_equal(wide, exact)
    again, same = quantize(wide)
    alive = q.any(axis=1)
    np.testing.assert_array_equal(again, q)
    np.testing.assert_array_equal(same[alive], scale[alive])
    np.testing.assert_array_equal(round_bf16(scale), scale)


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=9))
def test_any_row(values):
    x = np.float32([values])
    q, scale = quantize(x)
    assert scale[0] >= SMALLEST_SCALE and (np.abs(q.astype(int)) <= LARGEST).all()
    np.testing.assert_allclose(dequantize(q, scale), x, rtol=0, atol=0.501 * scale[0])


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=9))
def test_any_row_of_activations_spans_eight_bits(values):
    x = np.float32([values])
    q, scale = quantize_rows(x)
    assert max(q.max(), 0) - min(q.min(), 0) <= WIDTH + 1
    error = np.abs(q * scale[:, None].astype(np.float64) - x.astype(np.float64))
    assert scale[0] >= SMALLEST_SCALE and (error <= 0.501 * scale[0]).all()
    width = max(float(x.max()), 0) - min(float(x.min()), 0)
    assert scale[0] <= 1.01 * max(width / WIDTH, SMALLEST_SCALE)


def test_rows_without_a_scale():
    x = np.ones((4, 3), np.float32)
    x[0], x[1, 1], x[2, 0] = 0, np.nan, -np.inf
    q, scale = quantize(x)
    np.testing.assert_array_equal(q, [[0] * 3, [0] * 3, [0] * 3, [127] * 3])
    np.testing.assert_array_equal(np.isnan(scale), [False, True, True, False])
    assert scale[0] == SMALLEST_SCALE
    again, scale = quantize_rows(x)
    np.testing.assert_array_equal(again, [[0] * 3, [0] * 3, [0] * 3, [again[3, 0]] * 3])
    np.testing.assert_array_equal(np.isnan(scale), [False, True, True, False])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_specification_in_whole_numbers(dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.normal(size=s).astype(dtype) for s in ((7, 33), (5, 33), (5,)))
    y, cache = linear_int8.forward(x, weight, bias)
    assert y.dtype == dtype and cache is None
    (q, s), (w, t) = quantize_rows(x), quantize(weight)
    for n in range(7):
        for o in range(5):
            total = sum(int(a) * int(b) for a, b in zip(q[n], w[o], strict=True))
            assert y[n, o] == dtype(total) * dtype(s[n] * t[o]) + bias[o]
    np.testing.assert_allclose(y, x @ weight.T + bias, atol=0.15)
