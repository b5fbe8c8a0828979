"""Class weights and label smoothing: PyTorch's numbers, and what both are in simple cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend

LOGITS = np.array([[1.0, -0.5, 2.0], [0.25, 0.0, -1.0], [3.0, 0.5, 0.5]], np.float32)
LABELS, WEIGHTS = np.array([2, -100, 1]), np.array([0.5, 2.0, 1.0], np.float32)
# torch.nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=ε) in float64, and its gradient
STORED = {
    0.0: (
        1.891851934,
        [
            [0.084572061, 0.018870577, -0.103442638],
            [0.0, 0.0, 0.0],
            [0.572654052, -0.61966036, 0.047006307],
        ],
    ),
    0.1: (
        1.867471362,
        [
            [0.080426039, -0.003037135, -0.077388904],
            [0.0, 0.0, 0.0],
            [0.543237911, -0.577174511, 0.0339366],
        ],
    ),
}


def both_ways(ops, logits, **fixed):
    """loss, dlogits."""
    y, cache = ops.weighted_cross_entropy.forward(logits, **fixed)
    return y, ops.weighted_cross_entropy.backward(np.float32(1), cache)[0]


@pytest.mark.parametrize("name", SUFFIX)
@pytest.mark.parametrize("smoothing", STORED)
def test_as_pytorch_stored(name, smoothing):
    loss, d = both_ways(
        backend(name), LOGITS, labels=LABELS, class_weights=WEIGHTS, label_smoothing=smoothing
    )
    wanted, gradient = STORED[smoothing]
    assert loss == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(d, gradient, atol=1e-7)


@given(seed=st.integers(0, 999), N=st.integers(1, 9), K=st.integers(2, 12))
def test_plain_is_cross_entropy(seed, N, K):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (N, K)).astype(np.float32)
    labels = np.where(rng.random(N) < 0.6, rng.integers(0, K, N), -100)
    labels[0] = 0
    for ops in map(backend, SUFFIX):
        loss, d = both_ways(ops, logits, labels=labels)
        plain, cache = ops.cross_entropy.forward(logits, labels=labels)
        assert loss == pytest.approx(plain, rel=1e-6, abs=1e-7)
        np.testing.assert_allclose(
            d, ops.cross_entropy.backward(np.float32(1), cache)[0], atol=1e-7
        )


@pytest.mark.parametrize("name", SUFFIX)
def test_a_weight_of_two_is_a_row_twice(name):
    ops, kept = backend(name), np.array([0, 2])
    once = both_ways(ops, LOGITS, labels=LABELS, class_weights=np.array([1.0, 2.0, 1.0]))
    twice = both_ways(ops, LOGITS[[0, 2, 2]], labels=LABELS[[0, 2, 2]])
    assert once[0] == pytest.approx(twice[0], rel=1e-6)
    np.testing.assert_allclose(once[1][kept], [twice[1][0], twice[1][1] * 2], atol=1e-7)


@pytest.mark.parametrize("name", SUFFIX)
def test_what_is_refused(name):
    ops = backend(name)
    for fixed, message in (
        ({"class_weights": np.ones(2)}, "must be 3 numbers, one a class"),
        ({"label_smoothing": 1.0}, "from 0 to below 1, not 1.0"),
        ({"label_smoothing": -0.1}, "from 0 to below 1"),
        ({"class_weights": np.array([1.0, 0.0, 0.0])}, "the classes of all 2 labels weigh 0"),
    ):
        with pytest.raises(ValueError, match=message):
            both_ways(ops, LOGITS, labels=LABELS, **fixed)
    with pytest.raises(ValueError, match="needs a label"):
        both_ways(ops, LOGITS, labels=np.full(3, -100), label_smoothing=0.1)


@pytest.mark.parametrize("name", SUFFIX)
def test_classes_that_are_ruled_out(name):
    """Without smoothing a class of logit −∞ is not there; its weight says nothing."""
    logits = np.array([[0.0, -np.inf, 1.0]], np.float32)
    loss, d = both_ways(backend(name), logits, labels=np.array([2]), class_weights=WEIGHTS)
    assert loss == pytest.approx(np.log1p(np.exp(-1.0)), rel=1e-6) and d[0, 1] < 1e-30
