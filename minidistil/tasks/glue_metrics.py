"""How well predictions match labels: the numbers that GLUE's tasks are reported in.

Source of the definitions: scikit-learn and SciPy, whose values these are.
"""

import numpy as np

QUERIES = 1024  # whose scores are there at once
EQUAL = 1e-6  # cosines of the same two texts differ by less, computed in other company


def classification(predicted, labels, K):
    """predicted (B,), labels (B,) classes below K  ->  accuracy, macro_f1, matthews."""
    table = np.zeros((K, K))  # rows: labels, columns: predictions
    np.add.at(table, (labels, predicted), 1)
    right, given, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    return {
        "accuracy": float(right.sum() / table.sum()),
        "macro_f1": _macro_f1(right, given, said),
        "matthews": _matthews(right.sum(), given, said),
    }


def multi_label(predicted, labels):
    """predicted and labels (B,K) of 0 and 1  ->  accuracy (all K right), macro_f1, micro_f1."""
    predicted, labels = np.asarray(predicted, bool), np.asarray(labels, bool)
    right, given, said = ((predicted & labels).sum(axis=0), labels.sum(axis=0),
                          predicted.sum(axis=0))  # fmt: skip
    return {
        "accuracy": float((predicted == labels).all(axis=1).mean()),
        "macro_f1": float(np.mean(2 * right / np.maximum(given + said, 1))),
        "micro_f1": float(2 * right.sum() / max(given.sum() + said.sum(), 1)),
    }


def regression(predicted, labels):
    """predicted and labels (B,)  ->  mse, pearson, spearman; a correlation with a constant is 0."""
    predicted, labels = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    return {
        "mse": float(np.mean((predicted - labels) ** 2)),
        "pearson": _correlation(predicted, labels),
        "spearman": _correlation(_ranks(predicted), _ranks(labels)),
    }


def retrieval(u, w):
    """u, w (B,C) of length 1, wᵢ what uᵢ looks for among all w  ->  accuracy, how often it comes
    first, and mrr, the mean of 1/rank; among equally near ones, such as the same text twice, it
    counts as the middle one.

    Source: Voorhees, "The TREC-8 question answering track report", 1999 (mean reciprocal rank).
    """
    ranks = []
    for start in range(0, len(u), QUERIES):
        some = np.arange(start, min(start + QUERIES, len(u)))
        scores = u[some] @ w.T  # (b,B)
        own = scores[np.arange(len(some)), some][:, None]
        nearer = (scores > own + EQUAL).sum(axis=1)
        equal = (np.abs(scores - own) <= EQUAL).sum(axis=1)
        ranks.append(1 + nearer + (equal - 1) / 2)
    ranks = np.concatenate(ranks)
    return {"accuracy": float(np.mean(ranks == 1)), "mrr": float(np.mean(1 / ranks))}


def _macro_f1(right, given, said):
    """Mean over the classes that occur of 2·right/(given + said)."""
    there = (given + said) > 0
    return float(np.mean(2 * right[there] / (given + said)[there]))


def _matthews(right, given, said):
    """Matthews' correlation for K classes: the covariance of labels and predictions, normed."""
    n = given.sum()
    covariance = right * n - given @ said
    norm = np.sqrt(n**2 - given @ given) * np.sqrt(n**2 - said @ said)
    return float(covariance / norm) if norm > 0 else 0.0


def _correlation(x, y):
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else 0.0


def _ranks(x):
    """Ranks from 1; equal values share the mean of theirs."""
    _, which, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return ((2 * last - count + 1) / 2)[which]
