"""Metrics against scikit-learn and SciPy, and by hand where these are not installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidistil.tasks import glue_metrics

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None)
@given(PAIRS)
def test_classification_is_scikit_learns(pairs):
    sklearn = pytest.importorskip("sklearn.metrics")
    labels, predicted = np.array(pairs).T
    found = glue_metrics.classification(predicted, labels, 4)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"))
    assert found["matthews"] == pytest.approx(sklearn.matthews_corrcoef(labels, predicted))


def test_multi_label_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, predicted = rng.random((2, 30, 5)) < 0.4
    found = glue_metrics.multi_label(predicted, labels)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted))
    for name in ("macro", "micro"):
        value = sklearn.f1_score(labels, predicted, average=name)
        assert found[f"{name}_f1"] == pytest.approx(value)


def test_regression_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=50), 1)  # rounded, so that ranks are shared
    y = np.round(x + rng.normal(size=50), 1)
    found = glue_metrics.regression(x, y)
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, y)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, y)[0])
    assert found["mse"] == pytest.approx(np.mean((x - y) ** 2))


def test_by_hand():
    found = glue_metrics.classification(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]), 2)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["matthews"] == pytest.approx(2 / np.sqrt(12))


def test_constants_correlate_with_nothing():
    assert glue_metrics.classification(np.zeros(4, int), np.array([0, 1, 0, 1]), 2)["matthews"] == 0
    found = glue_metrics.regression(np.ones(3), np.arange(3.0))
    assert found["pearson"] == found["spearman"] == 0


def test_retrieval_by_hand():
    """Ranks 1, 2 and 3 of three, and of four that are all the same the middle, 2.5."""
    items = np.eye(3)
    queries = np.array([[9, 1, 0], [9, 8, 0], [9, 8, 7]]) / 12
    found = glue_metrics.retrieval(queries, items)
    assert found == {
        "accuracy": pytest.approx(1 / 3),
        "mrr": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
    }
    same = glue_metrics.retrieval(np.ones((4, 2)), np.ones((4, 2)))
    assert same == {"accuracy": 0.0, "mrr": pytest.approx(1 / 2.5)}


def test_retrieval_in_pieces_is_that_of_all(monkeypatch):
    u, w = np.random.default_rng(0).normal(size=(2, 23, 5))
    whole = glue_metrics.retrieval(u, w)
    monkeypatch.setattr(glue_metrics, "QUERIES", 4)
    assert glue_metrics.retrieval(u, w) == whole and 0 < whole["accuracy"] < whole["mrr"] < 1
