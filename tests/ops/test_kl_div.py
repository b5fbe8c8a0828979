"""Soft targets: zero where the two agree, τ² to undo τ, and a teacher that rules words out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.ops import SUFFIX, backend
from minidistil.ops.kl_div import REDUCTIONS


def draw(N, V, seed=0, scale=2.0):
    return np.random.default_rng(seed).normal(0, scale, (2, N, V)).astype(np.float32)


def both_ways(ops, logits, **fixed):
    """loss, dlogits."""
    y, cache = ops.kl_div.forward(logits, **fixed)
    return y, ops.kl_div.backward(logits.dtype.type(1), cache)[0]


@given(seed=st.integers(0, 999), tau=st.floats(0.5, 20), shift=st.floats(-5, 5))
def test_zero_where_they_agree_and_nowhere_below(seed, tau, shift):
    logits, teacher = draw(4, 9, seed)
    for ops in map(backend, SUFFIX):
        loss, d = both_ways(ops, logits, teacher=teacher, tau=tau)
        assert loss > 0
        np.testing.assert_allclose(d.sum(axis=1), 0, atol=1e-4)  # a shift of all logits is free
        shifted = logits + np.float32(shift)
        loss, d = both_ways(ops, logits, teacher=shifted, tau=tau)
        assert loss == pytest.approx(0, abs=1e-6 * tau**2)
        np.testing.assert_allclose(d, 0, atol=1e-6 * max(tau, 1))


@pytest.mark.parametrize("name", SUFFIX)
@pytest.mark.parametrize("tau", [1.0, 2.0, 7.5])
def test_tau(name, tau):
    """Softening by τ is dividing the logits by τ; `scale` multiplies by τ² and nothing else."""
    ops = backend(name)
    logits, teacher = draw(5, 11)
    cold, dcold = both_ways(ops, logits / np.float32(tau), teacher=teacher / np.float32(tau), tau=1)
    for scale, factor in ((False, 1), (True, tau**2)):
        loss, d = both_ways(ops, logits, teacher=teacher, tau=tau, scale=scale)
        assert loss == pytest.approx(factor * cold, rel=1e-5)
        np.testing.assert_allclose(d, factor / tau * dcold, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_reductions_differ_by_what_they_divide_by(name):
    logits, teacher = draw(6, 11)
    mask = np.array([True, False, True, True, False, False])
    losses = {
        reduction: both_ways(backend(name), logits, teacher=teacher, mask=mask, reduction=reduction)
        for reduction in REDUCTIONS
    }
    total, dtotal = losses["sum"]
    for reduction, n in (("batchmean", 3), ("mean", 3 * 11)):
        loss, d = losses[reduction]
        assert loss * n == pytest.approx(total, rel=1e-6)
        np.testing.assert_allclose(d * n, dtotal, rtol=1e-5)
    assert not dtotal[~mask].any() and dtotal[mask].all()


@pytest.mark.parametrize("name", SUFFIX)
def test_rows_that_are_not_selected_are_not_there(name):
    ops, (logits, teacher) = backend(name), draw(6, 11)
    mask = np.array([True, False, True, True, False, False])
    loss, d = both_ways(ops, logits, teacher=teacher, mask=mask)
    short_loss, short_d = both_ways(ops, logits[mask], teacher=teacher[mask])
    assert loss == short_loss
    np.testing.assert_array_equal(d[mask], short_d)


@pytest.mark.parametrize("name", SUFFIX)
def test_words_that_the_teacher_rules_out(name):
    """0·ln 0 is 0: such a word adds nothing to the loss, and the student unlearns it."""
    ops = backend(name)
    logits, teacher = draw(3, 8)
    teacher[:, [2, 5]] = -np.inf
    loss, d = both_ways(ops, logits, teacher=teacher, tau=2.0)
    far, far_d = both_ways(ops, logits, teacher=np.maximum(teacher, np.float32(-1e3)), tau=2.0)
    assert np.isfinite(loss) and loss == pytest.approx(far, rel=1e-6)
    np.testing.assert_allclose(d, far_d, rtol=1e-5, atol=1e-7)
    assert (d[:, [2, 5]] > 0).all()
    both_out = logits.copy()
    both_out[:, [2, 5]] = -np.inf  # where the student rules them out as well, they are gone
    gone, _ = both_ways(ops, both_out, teacher=teacher)
    rest = [0, 1, 3, 4, 6, 7]
    assert gone == pytest.approx(both_ways(ops, logits[:, rest], teacher=teacher[:, rest])[0])


@pytest.mark.parametrize("name", SUFFIX)
def test_what_cannot_be_computed_is_refused(name):
    ops, (logits, teacher) = backend(name), draw(3, 4)
    for wrong, match in (
        ({"tau": 0.0}, "temperature must be above 0, not 0.0"),
        ({"tau": -1.0}, "temperature must be above 0, not -1.0"),
        ({"reduction": "average"}, "batchmean, mean, sum, not 'average'"),
        ({"mask": np.zeros(3, bool)}, "the mask picks 0 of 3"),
    ):
        with pytest.raises(ValueError, match=match):
            ops.kl_div.forward(logits, teacher=teacher, **wrong)
