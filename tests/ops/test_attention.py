"""Attention: a sequence meets only itself, and does not care where it lies in the batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_cases import draw_for, sequences

from minidistil.ops import SUFFIX, backend
from minidistil.ops.kernels.flash_attention import KEYS, QUERIES
from minidistil.ops.kernels.register_tile import MR, NR
from minidistil.ops.runtime.cpu import threads
from minidistil.testing import compare, rms

H, C = 2, 6


def draw_qkv(N, seed=0, scale=1.0):
    return [a.astype(np.float32) for a in np.random.default_rng(seed).normal(0, scale, (3, N, C))]


def both_ways(ops, qkv, dy, **fixed):
    """y, dq, dk, dv."""
    y, cache = ops.attention.forward(*qkv, n_heads=H, **fixed)
    return y, *ops.attention.backward(dy, cache)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_sequences_are_alone(lengths, seed):
    """All at once and one by one, the same bits; dropout follows the sequence's number."""
    bounds = sequences(*lengths)
    qkv, dropout_key = draw_qkv(bounds[-1], seed), draw_for(lengths)
    dy = draw_qkv(bounds[-1], seed + 100)[0]
    for ops in map(backend, SUFFIX):
        together = both_ways(ops, qkv, dy, bounds=bounds, dropout_key=dropout_key)
        for b, t in enumerate(lengths):
            rows = slice(bounds[b], bounds[b + 1])
            own = dropout_key._replace(
                sequence=dropout_key.sequence[rows], column=dropout_key.column[rows]
            )
            alone = both_ways(
                ops, [x[rows] for x in qkv], dy[rows], bounds=sequences(t), dropout_key=own
            )
            for one, all_ in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one, all_[rows])


@given(seed=st.integers(0, 99), t=st.integers(1, 12))
def test_permuted_tokens_give_permuted_outputs(seed, t):
    """There is no order in attention: positions come from the embeddings alone."""
    order = np.random.default_rng(seed).permutation(t)
    qkv, dy = draw_qkv(t, seed), draw_qkv(t, seed + 100)[0]
    for ops in map(backend, SUFFIX):
        plain = both_ways(ops, qkv, dy, bounds=sequences(t))
        moved = both_ways(ops, [x[order] for x in qkv], dy[order], bounds=sequences(t))
        for one, two in zip(plain, moved, strict=True):
            np.testing.assert_allclose(two, one[order], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_one_token_sees_its_own_value(name):
    qkv, dy = draw_qkv(4), draw_qkv(4, seed=1)[0]
    y, dq, dk, dv = both_ways(backend(name), qkv, dy, bounds=sequences(1, 1, 1, 1))
    np.testing.assert_allclose(y, qkv[2], rtol=1e-6)
    np.testing.assert_allclose(dv, dy, rtol=1e-6)
    np.testing.assert_allclose([dq, dk], 0, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_equal_keys_average_the_values(name):
    q, k, v = draw_qkv(5)
    y, _ = backend(name).attention.forward(q, k[[0] * 5], v, bounds=sequences(5), n_heads=H)
    np.testing.assert_allclose(y, np.tile(v.mean(axis=0), (5, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_heads_are_neighbouring_channels(name):
    """A head that changes touches its own D channels only."""
    q, k, v = draw_qkv(5)
    other = v.copy()
    other[:, C // H :] += 1
    one, two = (
        backend(name).attention.forward(q, k, x, bounds=sequences(5), n_heads=H)[0]
        for x in (v, other)
    )
    np.testing.assert_array_equal(one[:, : C // H], two[:, : C // H])
    np.testing.assert_allclose(one[:, C // H :] + 1, two[:, C // H :], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_scores_in_the_hundreds_do_not_overflow(name):
    qkv, dy = draw_qkv(6, scale=30), draw_qkv(6, seed=1)[0]
    for x in both_ways(backend(name), qkv, dy, bounds=sequences(6)):
        assert np.isfinite(x).all()


@pytest.mark.parametrize("name", SUFFIX)
def test_dropout_keeps_its_share_of_the_weights(name):
    """With equal keys and v all ones, y is the mean of m/(1−p) over the keys."""
    lengths = (60, 50)
    q, k, v = np.zeros((3, sum(lengths), C), np.float32)
    dropout_key = draw_for(lengths, p=0.3)
    y, _ = backend(name).attention.forward(
        q, k, v + 1, bounds=sequences(*lengths), n_heads=H, dropout_key=dropout_key
    )
    draws = H * sum(t * t for t in lengths)
    kept = np.concatenate([y[:60] * 60, y[60:] * 50])[:, :: C // H].sum() * 0.7 / draws
    assert abs(kept - 0.7) < 4 * np.sqrt(0.7 * 0.3 / draws)
    assert (y[:, 0] != y[:, C // H]).mean() > 0.5  # each head draws for itself


# ---------------------------------------------------------------- tiles


@pytest.mark.parametrize("D", [1, 7, NR, 64])
@pytest.mark.parametrize(
    "lengths", [(QUERIES,), (KEYS + 1, 1), (QUERIES + 1, KEYS - 1, 2), (2 * KEYS + 53,)]
)
def test_lengths_around_a_tile(D, lengths):
    """Forward and backward, with a mask and without, as the specification in float32 is."""
    for dropout_key in (None, draw_for(lengths)):
        as_specified(D, lengths, lengths, dropout_key=dropout_key)


@pytest.mark.parametrize("D", [7, 64])
@pytest.mark.parametrize(
    "lengths, key_lengths",
    [((QUERIES + 1, 1), (KEYS + 1, 2 * KEYS)), ((KEYS + 53, 3), (KEYS + 53, 3)),
     ((2, QUERIES + MR), (2, KEYS + QUERIES))],
)  # fmt: skip
def test_keys_around_a_tile(D, lengths, key_lengths):
    """Other keys than queries, and the edge of what a query may see in every tile."""
    as_specified(D, lengths, key_lengths)
    as_specified(D, lengths, key_lengths, causal=True, dropout_key=draw_for(lengths))


def as_specified(D, lengths, key_lengths, **fixed):
    """The kernels in float32 are as near to float64 as the specification is."""
    rng, C = np.random.default_rng(D), 2 * D
    fixed |= {"bounds": sequences(*lengths), "key_bounds": sequences(*key_lengths)}
    q, dy = rng.normal(size=(2, sum(lengths), C)).astype(np.float32)
    k, v = rng.normal(size=(2, sum(key_lengths), C)).astype(np.float32)
    mine = both_ways(backend("cpu"), (q, k, v), dy, **fixed)
    reference = both_ways(backend("numpy"), (q, k, v), dy, **fixed)
    wide = [x.astype(np.float64) for x in (q, k, v)]
    exact = both_ways(backend("numpy"), wide, dy.astype(np.float64), **fixed)
    largest = max(map(rms, exact[1:]))
    for name, *x in zip(("y", "dq", "dk", "dv"), mine, reference, exact, strict=True):
        compare(name, *x, scale=None if name == "y" else largest)


@pytest.mark.parametrize("name", SUFFIX)
def test_the_future_is_not_seen(name):
    """A later token changes no bit of an earlier one's context, and gets no gradient from it."""
    bounds, t = sequences(2, 60), 50
    q, k, v = draw_qkv(62)
    dy = np.where(np.arange(62)[:, None] < t, draw_qkv(62, seed=1)[0], 0)
    y, dq, dk, dv = both_ways(backend(name), (q, k, v), dy, bounds=bounds, causal=True)
    assert not dk[t:].any() and not dv[t:].any() and dq[t - 1].any()
    k[t:], v[t:] = 7, 8
    y_new, *_ = both_ways(backend(name), (q, k, v), dy, bounds=bounds, causal=True)
    np.testing.assert_array_equal(y[:t], y_new[:t])
    assert (y[t:] != y_new[t:]).all()


@pytest.mark.parametrize("name", SUFFIX)
def test_the_newest_queries_meet_all_that_came_before(name):
    """One query at a time over growing keys gives what all of them give at once."""
    q, k, v = draw_qkv(7)
    ops, fixed = backend(name), {"n_heads": H, "causal": True}
    whole, _ = ops.attention.forward(q, k, v, bounds=sequences(7), **fixed)
    for n in range(7):
        rest = [x[: n + 1] for x in (k, v)]
        y, _ = ops.attention.forward(
            q[n : n + 1], *rest, bounds=sequences(1), key_bounds=sequences(n + 1), **fixed
        )
        np.testing.assert_allclose(y[0], whole[n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_a_sequence_without_queries_gets_no_gradient(name):
    q, k, v = draw_qkv(5)
    _, dq, dk, dv = both_ways(
        backend(name), (q[:2], k, v), q[2:4], bounds=sequences(0, 2), key_bounds=sequences(3, 2)
    )
    assert dq.all() and not dk[:3].any() and not dv[:3].any() and dk[3:].all()


@pytest.mark.parametrize("order", [1, -1])
def test_the_running_maximum_follows_scores_that_would_overflow(order):
    """Scores from −10⁴ to 10⁴, the largest in the first tile or in the last one."""
    t = 2 * KEYS
    q, v = np.ones((t, 1), np.float32), np.arange(t, dtype=np.float32)[:, None]
    k = np.linspace(-1e4, 1e4, t, dtype=np.float32)[::order, None]
    y, _ = backend("cpu").attention.forward(q, k, v, bounds=sequences(t), n_heads=1)
    np.testing.assert_allclose(y, t - 1 if order == 1 else 0, atol=1e-20)  # e⁻⁸⁷ is our smallest


def test_nothing_kept_grows_with_the_square_of_the_length():
    t = 600
    qkv = draw_qkv(t)
    fixed = {"bounds": sequences(t), "n_heads": H}
    _, (*_, kept, _, _, _) = backend("cpu").attention.forward(*qkv, **fixed)
    assert sum(x.size for x in kept) == t * (C + 2 * H)
    for name in SUFFIX:
        assert backend(name).attention.forward(*qkv, **fixed, keep=False)[1] is None


@pytest.mark.parametrize("causal", [False, True])
def test_workers_change_no_bit(causal):
    lengths = (QUERIES + 5, 3, KEYS + 7)
    bounds, dropout_key = sequences(*lengths), draw_for(lengths)
    qkv, dy = draw_qkv(bounds[-1]), draw_qkv(bounds[-1], 1)[0]
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(
                both_ways(
                    backend("cpu"), qkv, dy, bounds=bounds, dropout_key=dropout_key, causal=causal
                )
            )
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
