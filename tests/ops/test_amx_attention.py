"""Float32 attention on AMX: as accurate as without, and which sequences it leaves to float32."""

import numpy as np
import pytest
from attention_tiles import tiles_in_numpy
from op_cases import draw_for, sequences

from minidistil.ops import attention
from minidistil.ops.kernels import amx_attention
from minidistil.ops.kernels.amx_attention import LEAST
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import threads
from minidistil.testing import rms

H, D = 2, 40
has_amx = pytest.mark.skipif(bool(amx.refusal()), reason=amx.refusal())


@pytest.fixture(params=["amx", "numpy"])
def unit(request, monkeypatch):
    """Of every length, so that few tiles in NumPy do."""
    monkeypatch.setattr(amx_attention, "LEAST", 0)
    if request.param == "numpy":
        tiles_in_numpy(monkeypatch)
    elif amx.refusal():
        pytest.skip(amx.refusal())


def case(lengths, key_lengths=None, **fixed):
    """q, k, v, and the keyword arguments."""
    rng, keys = np.random.default_rng(sum(lengths)), key_lengths or lengths
    q = rng.standard_normal((sum(lengths), H * D), np.float32)
    k, v = rng.standard_normal((2, sum(keys), H * D), np.float32)
    fixed |= {"bounds": sequences(*lengths), "n_heads": H}
    return [q, k, v], fixed | ({"key_bounds": sequences(*key_lengths)} if key_lengths else {})


def forward_and_backward(qkv, fixed):
    """y, dq, dk, dv."""
    y, cache = attention.forward_cpu(*qkv, **fixed)
    dy = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    return y, *attention.backward_cpu(dy, cache)


def without_amx(qkv, fixed):
    with amx.without_amx():
        return attention.forward_cpu(*qkv, **fixed)[0]


def as_accurate(qkv, fixed):
    """y has at most the error of float32 tiles, the gradients at most three times that of NumPy."""
    exact = [x.astype(np.float64) for x in qkv]
    y, cache = attention.forward(*exact, **fixed)
    dy = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    expected = y, *attention.backward(dy.astype(np.float64), cache)
    y, cache = attention.forward(*qkv, **fixed)
    numpy32, mine = (y, *attention.backward(dy, cache)), forward_and_backward(qkv, fixed)
    assert rms(mine[0] - expected[0]) <= rms(without_amx(qkv, fixed) - expected[0]) + 1e-8
    floor = 2e-7 * max(map(rms, expected))
    for one, other, number in zip(mine, numpy32, expected, strict=True):
        assert rms(one - number) <= 3 * rms(other - number) + floor


@pytest.mark.parametrize("lengths", [(1,), (15, 1), (16, 33), (31, 17), (67,)], ids=str)
def test_every_length(unit, lengths):
    as_accurate(*case(lengths))
    as_accurate(*case(lengths, causal=True))


@pytest.mark.parametrize("causal", [False, True])
def test_keys_of_others(unit, causal):
    as_accurate(*case((3, 20), (33, 41), causal=causal))


@has_amx
@pytest.mark.parametrize("lengths", [(LEAST,), (300, 5, 193)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_long_sequences(lengths, causal):
    qkv, fixed = case(lengths, causal=causal)
    as_accurate(qkv, fixed)
    y, plain = attention.forward_cpu(*qkv, **fixed)[0], without_amx(qkv, fixed)
    assert np.any(y[: lengths[0]] != plain[: lengths[0]])  # AMX it was


@has_amx
@pytest.mark.parametrize("causal", [False, True])
def test_the_tiles_in_numpy_are_the_processors(monkeypatch, causal):
    monkeypatch.setattr(amx_attention, "LEAST", 0)
    qkv, fixed = case((37, 3), causal=causal)
    y = attention.forward_cpu(*qkv, **fixed)[0]
    tiles_in_numpy(monkeypatch)
    np.testing.assert_array_equal(attention.forward_cpu(*qkv, **fixed)[0], y)


@has_amx
def test_workers_and_neighbours_change_no_bit():
    lengths = (200, 3, 333)
    qkv, fixed = case(lengths)
    with threads(1):
        alone = forward_and_backward(qkv, fixed)
    with threads(2):
        for one, two in zip(forward_and_backward(qkv, fixed), alone, strict=True):
            np.testing.assert_array_equal(one, two)
        own = [x[203:] for x in qkv], fixed | {"bounds": sequences(333)}
        np.testing.assert_array_equal(forward_and_backward(*own)[0], alone[0][203:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**32, -3e38])
@pytest.mark.parametrize("which", range(3))
def test_what_cannot_be_split_is_computed_without(unit, which, value):
    """The sequence that holds it; the others keep their bits."""
    qkv, fixed = case((40, 20, 9))
    before = attention.forward_cpu(*qkv, **fixed)[0]
    qkv[which][43, 5] = value
    y, cache = attention.forward_cpu(*qkv, **fixed)
    own = slice(40, 60)
    np.testing.assert_array_equal(y[own], without_amx(qkv, fixed)[own])
    np.testing.assert_array_equal(np.delete(y, own, axis=0), np.delete(before, own, axis=0))
    with amx.without_amx():
        norms = attention.forward_cpu(*qkv, **fixed)[1][3][1]
    np.testing.assert_array_equal(cache[3][1][own], norms[own])


def test_short_sequences_and_dropout_take_float32(monkeypatch):
    qkv, fixed = case((LEAST - 1, 20), (LEAST, 700))
    np.testing.assert_array_equal(attention.forward_cpu(*qkv, **fixed)[0],
                                  without_amx(qkv, fixed))  # fmt: skip
    monkeypatch.setattr(amx_attention, "LEAST", 0)
    qkv, fixed = case((20, 7), dropout_key=draw_for((20, 7)))
    np.testing.assert_array_equal(attention.forward_cpu(*qkv, **fixed)[0],
                                  without_amx(qkv, fixed))  # fmt: skip
