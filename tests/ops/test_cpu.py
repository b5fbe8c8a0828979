"""The vector maths behind every kernel, against float64, over all exponents that float32 has."""

import math

import numpy as np
import pytest

from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.cpu import erf, exp, serial, tanh, threads


@serial
def exp_of(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


@serial
def tanh_of(x, y):
    for i in range(x.size):
        y[i] = tanh(x[i])


@serial
def erf_of(x, y):
    for i in range(x.size):
        y[i] = erf(x[i])


KERNELS = {"exp": exp_of, "tanh": tanh_of, "erf": erf_of}
WORST = {"exp": 2, "tanh": 2, "erf": 3}
REACH = {"exp": 87.0, "tanh": 3e38, "erf": 3e38}  # below -87 the true eˣ is denormal


def apply(name, x):
    x = np.atleast_1d(np.asarray(x, np.float32))
    y = np.empty_like(x)
    KERNELS[name](x, y)
    return y


def every_exponent(reach, per_exponent=200):
    """Random mantissas for every exponent of float32 up to `reach`, both signs."""
    rng = np.random.default_rng(0)
    powers = np.arange(-126, math.floor(math.log2(reach)) + 1)
    x = np.ldexp(rng.uniform(1, 2, (len(powers), per_exponent)), powers[:, None]).ravel()
    x = np.append(x[x <= reach], np.linspace(0, min(reach, 12), 20_000)).astype(np.float32)
    return np.concatenate([x, -x])


@pytest.mark.parametrize("name", KERNELS)
def test_error_in_last_places(name):
    x = every_exponent(REACH[name])
    exact = np.vectorize(getattr(math, name))(x.astype(np.float64))
    ulp = np.spacing(np.maximum(np.abs(exact), np.finfo(np.float32).tiny).astype(np.float32))
    error = np.abs(apply(name, x) - exact) / ulp
    assert error.max() <= WORST[name], f"{error.max():.2f} ulp at {x[error.argmax()]!r}"


@pytest.mark.parametrize("name", KERNELS)
def test_nan_stays_nan(name):
    assert np.isnan(apply(name, np.nan)).all()


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_and_saturating(name):
    x = every_exponent(3e38, per_exponent=20)
    np.testing.assert_array_equal(apply(name, -x), -apply(name, x))
    np.testing.assert_array_equal(apply(name, [np.inf, -np.inf, 20, 0]), [1, -1, 1, 0])
    assert np.abs(apply(name, x)).max() <= 1


def test_exp_at_its_ends():
    """Far below there is almost nothing; above, the largest value that a loss may still show."""
    low, lower, one, high = apply("exp", [-100, -np.inf, 0, 88])
    assert 0 <= low < 2e-38 and 0 <= lower < 2e-38 and one == 1
    assert high == pytest.approx(math.exp(88), rel=1e-6)


def test_erf_of_array_has_both_precisions():
    x = np.linspace(-3, 3, 101)
    exact = np.array([math.erf(v) for v in x])
    assert cpu.erf_of_array(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(cpu.erf_of_array(x), exact, rtol=1e-15)


def test_threads_are_given_back():
    before = cpu.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(1):
        assert cpu.get_num_threads() == 1
        raise ZeroDivisionError
    assert cpu.get_num_threads() == before
