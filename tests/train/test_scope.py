"""Thresholds for what is out of scope, beside a search over every threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.tasks.text_classification.out_of_scope import choose_threshold, scope

SHARES = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=12)


def test_the_two_numbers():
    inside, right = np.array([0.9, 0.8, 0.4, 0.7]), np.array([True, True, True, False])
    found = scope(inside, right, np.array([0.3, 0.6, 0.95]), 0.5)
    assert found == pytest.approx(
        {"in_scope_accuracy": 2 / 4, "out_of_scope_recall": 1 / 3, "accuracy": 3 / 7}
    )


def test_a_score_of_the_threshold_is_kept():
    found = scope(np.array([0.5]), np.array([True]), np.array([0.5]), 0.5)
    assert (found["in_scope_accuracy"], found["out_of_scope_recall"]) == (1.0, 0.0)


@given(SHARES, SHARES, st.data())
def test_no_threshold_between_the_scores_is_better(inside, outside, data):
    right = np.array(data.draw(st.lists(st.booleans(), min_size=len(inside), max_size=len(inside))))
    inside, outside = np.array(inside), np.array(outside)

    def accuracy(threshold):
        return scope(inside, right, outside, threshold)["accuracy"]

    highest = max(inside.max(), outside.max())
    chosen = choose_threshold(inside, right, outside)
    every = [t for t in np.arange(0, 41) / 40 if t < highest]
    assert 0 <= chosen <= 1 and accuracy(chosen) == max(map(accuracy, [0.0, *every]))
