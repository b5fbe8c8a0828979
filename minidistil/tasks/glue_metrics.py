"""Metrics of GLUE's tasks: accuracy, F1, Matthews, Pearson and Spearman; and of retrieval.

Source of the definitions: scikit-learn and SciPy, whose values these are.
"""

import numpy as np

QUERIES = 1024  # whose scores are in memory at once
EQUAL = 1e-6  # cosines of the same two texts in different batches differ by less


def classification(predicted: np.ndarray, labels: np.ndarray, K: int) -> dict[str, float]:
    """predicted (B,), labels (B,) classes below K  ->  accuracy, macro_f1, matthews."""
    table = np.zeros((K, K))  # rows: labels, columns: predictions
    np.add.at(table, (labels, predicted), 1)
    hits, true, chosen = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    return {
        "accuracy": float(hits.sum() / table.sum()),
        "macro_f1": _macro_f1(hits, true, chosen),
        "matthews": _matthews(hits.sum(), true, chosen),
    }


def multi_label(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """predicted and labels (B,K) of 0 and 1  ->  accuracy (all K correct), macro_f1, micro_f1."""
    predicted, labels = np.asarray(predicted, bool), np.asarray(labels, bool)
    hits, true, chosen = ((predicted & labels).sum(axis=0), labels.sum(axis=0),
                          predicted.sum(axis=0))  # fmt: skip
    return {
        "accuracy": float((predicted == labels).all(axis=1).mean()),
        "macro_f1": float(np.mean(2 * hits / np.maximum(true + chosen, 1))),
        "micro_f1": float(2 * hits.sum() / max(true.sum() + chosen.sum(), 1)),
    }


def regression(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """predicted and labels (B,)  ->  mse, pearson, spearman; a correlation with a constant is 0."""
    predicted, labels = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    return {
        "mse": float(np.mean((predicted - labels) ** 2)),
        "pearson": _correlation(predicted, labels),
        "spearman": _correlation(_ranks(predicted), _ranks(labels)),
    }


def retrieval(u: np.ndarray, w: np.ndarray) -> dict[str, float]:
    """u, w (B,C) of length 1, wᵢ the match of the query uᵢ among all w  ->  accuracy, mrr.

    accuracy: how often wᵢ has rank 1; mrr: the mean of 1/rank. Among ties, such as duplicate texts,
    wᵢ has the middle rank.
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


def _macro_f1(hits, true, chosen):
    """Mean over the classes that occur of 2·hits/(true + chosen)."""
    there = (true + chosen) > 0
    return float(np.mean(2 * hits[there] / (true + chosen)[there]))


def _matthews(hits, true, chosen):
    """Matthews' correlation for K classes: normalised covariance of labels and predictions."""
    n = true.sum()
    covariance = hits * n - true @ chosen
    norm = np.sqrt(n**2 - true @ true) * np.sqrt(n**2 - chosen @ chosen)
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
