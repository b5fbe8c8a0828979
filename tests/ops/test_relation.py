"""Relations: what agrees costs nothing, what the measures mean, and what is refused."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend
from minidistil.ops.relation import MEASURES

RNG = np.random.default_rng(0)
Q, K = (RNG.normal(size=(7, 6)).astype(np.float32) for _ in range(2))
BOUNDS, WEIGHTS = np.array([0, 3, 7]), np.array([0.5, 0.25])


def relation(name, q, k, target_q, target_k, measure, n_heads=2):
    fixed = {"target_q": target_q, "target_k": target_k, "bounds": BOUNDS, "n_heads": n_heads,
             "weights": WEIGHTS, "measure": measure}  # fmt: skip
    return backend(name).relation.forward(q, k, **fixed)


@pytest.mark.parametrize("name", SUFFIX)
@pytest.mark.parametrize("measure", MEASURES)
def test_a_student_like_its_teacher_has_nothing_to_learn(name, measure):
    y, gradients = relation(name, Q, K, Q, K, measure)
    if measure == "ce":  # the teacher's entropy is left
        assert y > 0.1
    else:
        assert abs(y) < 1e-5
    for d in gradients:
        np.testing.assert_allclose(d, 0, atol=1e-6)


@pytest.mark.parametrize("name", SUFFIX)
def test_scores_of_one_head_by_hand(name):
    y, _ = relation(name, Q, K, 2 * Q, K, "scores", n_heads=1)
    squares = [(Q[r] @ K[r].T / np.sqrt(6)) ** 2 for r in (slice(0, 3), slice(3, 7))]
    assert y == pytest.approx(0.5 * squares[0].sum() + 0.25 * squares[1].sum(), rel=1e-5)


@pytest.mark.parametrize("name", SUFFIX)
def test_no_sequence_meets_another(name):
    y, _ = relation(name, Q, K, K, Q, "probs")
    far = K.copy()
    far[3:] *= 100  # of the second sequence, which weighs nothing here
    fixed = {"target_q": K, "target_k": Q, "bounds": BOUNDS, "n_heads": 2, "measure": "probs"}
    ops = backend(name)
    first, (dq, dk) = ops.relation.forward(Q, K, weights=np.array([0.5, 0]), **fixed)
    again, _ = ops.relation.forward(Q, far, weights=np.array([0.5, 0]), **fixed)
    assert first == again < y
    np.testing.assert_array_equal(np.stack([dq[3:], dk[3:]]), 0)


@pytest.mark.parametrize("name", SUFFIX)
def test_what_cannot_be_computed_is_refused(name):
    with pytest.raises(ValueError, match="measure must be one of kl, ce, scores, probs, not 'cos'"):
        relation(name, Q, K, Q, K, "cos")
    with pytest.raises(ValueError, match="6 channels do not split into 4 equal heads"):
        relation(name, Q, K, Q, K, "kl", n_heads=4)
