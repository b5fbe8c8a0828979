"""Attention in bfloat16: its specification, and the kernel on AMX's tiles or on those in NumPy."""

import numpy as np
import pytest
from attention_tiles import tiles_in_numpy
from op_cases import draw_for, sequences

from minidistil.ops import attention, attention_bf16, backend
from minidistil.ops.kernels.amx_tile import SIDE
from minidistil.ops.kernels.number_formats import round_bf16
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import threads
from minidistil.testing import rms

H = 2
LENGTHS = [(1,), (15, 1), (16,), (17, 31), (33, 3), (127,)]
HEADS = [64, 32, 80, 8]
has_amx = pytest.mark.skipif(bool(amx.refusal()), reason=amx.refusal())


@pytest.fixture(params=["amx", "numpy"])
def unit(request, monkeypatch):
    if request.param == "numpy":
        tiles_in_numpy(monkeypatch)
    elif amx.refusal():
        pytest.skip(amx.refusal())


def case(lengths, D, key_lengths=None, **fixed):
    """q, k, v, and the keyword arguments."""
    rng, keys = np.random.default_rng(D), key_lengths or lengths
    q = rng.standard_normal((sum(lengths), H * D), np.float32)
    k, v = rng.standard_normal((2, sum(keys), H * D), np.float32)
    fixed |= {"bounds": sequences(*lengths), "n_heads": H}
    return (q, k, v), fixed | ({"key_bounds": sequences(*key_lengths)} if key_lengths else {})


def as_specified(qkv, fixed):
    """The kernel is nearer to its specification than that is to attention without rounding."""
    y, cache = attention_bf16.forward_cpu(*qkv, **fixed, keep=False)
    assert cache is None and y.dtype == np.float32
    expected, _ = attention_bf16.forward(*[x.astype(np.float64) for x in qkv], **fixed)
    plain, _ = attention.forward(*[x.astype(np.float64) for x in qkv], **fixed)
    size = np.abs(qkv[2]).max()
    assert rms(expected - plain) > 2e-5 * size
    # An e close to the middle of two bfloat16 numbers may go to either.
    assert rms(y - expected) < 0.05 * rms(expected - plain)
    np.testing.assert_allclose(y, expected, atol=2.0**-9 * size)
    return y


def test_the_specification_rounds_operands_and_nothing_else():
    (q, k, v), fixed = case((5,), 8)
    y, cache = attention_bf16.forward(q, k, v, **fixed, keep=False)
    assert cache is None
    qh, kh, vh = (round_bf16(x[:, :8]).astype(np.float64) for x in (q, k, v))
    s = qh @ kh.T / np.sqrt(8)
    e = np.exp(s - s.max(axis=1, keepdims=True))
    expected = round_bf16(e) @ vh / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(y[:, :8], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("D", HEADS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_every_length_and_head(unit, lengths, D):
    if sum(lengths) == 1:  # one key: y is its value
        (q, k, v), fixed = case(lengths, D)
        y, _ = attention_bf16.forward_cpu(q, k, v, **fixed)
        np.testing.assert_array_equal(y, round_bf16(v))
    else:
        as_specified(*case(lengths, D))


@pytest.mark.parametrize(
    "lengths, key_lengths", [((3, 33), (40, 1)), ((1, 1), (70, 65)), ((0, 20), (4, 31))]
)
def test_keys_of_others_and_the_future(unit, lengths, key_lengths):
    """Cross attention; causal, where the queries are the newest of the keys' tokens."""
    as_specified(*case(lengths, 8, key_lengths))
    longer = tuple(map(max, lengths, key_lengths))
    qkv, fixed = case(lengths, 8, longer, causal=True)
    as_specified(qkv, fixed)
    as_specified(*case((70, 2), 8, causal=True))


@has_amx
@pytest.mark.parametrize("lengths", [(512, 31), (300,), (1, 17, 129)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_long_sequences(lengths, causal):
    as_specified(*case(lengths, 64, causal=causal))


@has_amx
@pytest.mark.parametrize("causal", [False, True])
def test_the_tiles_in_numpy_are_the_processors(monkeypatch, causal):
    qkv, fixed = case((SIDE + 5, 3, 65), 40, causal=causal)
    y, _ = attention_bf16.forward_cpu(*qkv, **fixed)
    tiles_in_numpy(monkeypatch)
    np.testing.assert_array_equal(attention_bf16.forward_cpu(*qkv, **fixed)[0], y)


def test_sums_without_rounding_are_exact(unit):
    """Equal keys average the values; a key far above all others selects its value."""
    (q, k, v), fixed = case((32,), 8)
    v = np.rint(4 * v)
    y, _ = attention_bf16.forward_cpu(q, k[[0] * 32], v, **fixed)
    np.testing.assert_array_equal(y, np.tile(v.mean(axis=0), (32, 1)))
    q[:], k[:] = 8, -64
    k[5] = 64
    y, _ = attention_bf16.forward_cpu(q, k, v, **fixed)
    np.testing.assert_array_equal(y, np.tile(v[5], (32, 1)))


@has_amx
def test_workers_and_neighbours_change_no_bit():
    lengths = (70, 3, 133)
    qkv, fixed = case(lengths, 64)
    with threads(1):
        alone = attention_bf16.forward_cpu(*qkv, **fixed)[0]
    with threads(2):
        np.testing.assert_array_equal(attention_bf16.forward_cpu(*qkv, **fixed)[0], alone)
        one, own = [x[73:] for x in qkv], fixed | {"bounds": sequences(133)}
        np.testing.assert_array_equal(attention_bf16.forward_cpu(*one, **own)[0], alone[73:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", range(3))
def test_what_is_no_number_reaches_what_it_reaches_in_the_specification(unit, which, value):
    qkv, fixed = case((40, 20), 8)
    qkv[which][3, 5] = value
    with np.errstate(invalid="ignore"):
        y, expected = (f(*qkv, **fixed)[0] for f in (attention_bf16.forward_cpu,
                                                     attention_bf16.forward))  # fmt: skip
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    assert not np.isfinite(expected).all()


def test_the_gradient_is_that_of_float32_at_the_rounded_operands(unit):
    """Of y, which is rounded a little more: in e."""
    for lengths, key_lengths, causal in (((20, 7), None, True), ((33,), (50,), False)):
        qkv, fixed = case(lengths, 8, key_lengths, causal=causal)
        dy = np.random.default_rng(1).standard_normal(qkv[0].shape, np.float32)
        y, cache = attention_bf16.forward_cpu(*qkv, **fixed)
        np.testing.assert_array_equal(y, attention_bf16.forward_cpu(*qkv, **fixed, keep=False)[0])
        _, spec = attention_bf16.forward(*qkv, **fixed)
        _, plain = attention.forward(*[round_bf16(x) for x in qkv], **fixed)
        grads = [attention_bf16.backward_cpu(dy, cache), attention_bf16.backward(dy, spec)]
        for mine, specified, exact in zip(*grads, attention.backward(dy, plain), strict=True):
            np.testing.assert_allclose(specified, exact, rtol=1e-4, atol=1e-5)
            assert rms(mine - specified) < 2e-3 * rms(specified)


def test_dropout_and_processors_without_amx_take_float32():
    qkv, fixed = case((20, 7), 8)
    with amx.without_amx():
        y, cache = attention_bf16.forward_cpu(*qkv, **fixed)
        np.testing.assert_array_equal(y, attention.forward_cpu(*qkv, **fixed)[0])
        assert cache[0] is qkv[0]
    fixed |= {"dropout_key": draw_for((20, 7))}
    for name in ("forward", "forward_cpu"):
        y, _ = getattr(attention_bf16, name)(*qkv, **fixed)
        np.testing.assert_array_equal(y, getattr(attention, name)(*qkv, **fixed)[0])


@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_models_in_bfloat16_use_it(name):
    forward = "forward" if name == "numpy" else "forward_cpu"
    assert backend(name, "bfloat16").attention.forward is getattr(attention_bf16, forward)
    assert backend(name, "int8").attention.forward is getattr(attention, forward)
