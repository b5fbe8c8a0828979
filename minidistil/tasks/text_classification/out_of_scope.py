"""Out-of-scope detection: a classifier refuses a text if its best probability is too small.

    answer = argmaxₖ pₖ   where maxₖ pₖ ≥ θ,   else "out of scope"

The classifier is trained on its intents alone; θ is chosen on other texts, some of them out of
scope, for the highest accuracy over all of them. Source: Larson et al., "An evaluation dataset for
intent classification and out-of-scope prediction", 2019, §3 (oos-threshold) and §4, with its two
metrics: accuracy on in-scope texts, where a refusal is wrong, and recall of out-of-scope texts.
"""

import numpy as np


def scope(
    inside: np.ndarray, right: np.ndarray, outside: np.ndarray, threshold: float
) -> dict[str, float]:
    """The metrics of the threshold θ: in_scope_accuracy, out_of_scope_recall, accuracy.

    inside (B,) and outside (M,): the largest probability of texts in and out of scope; right (B,):
    whether the argmax is the label.
    """
    kept, refused = right & (inside >= threshold), outside < threshold
    return {
        "in_scope_accuracy": float(kept.mean()),
        "out_of_scope_recall": float(refused.mean()),
        "accuracy": float((kept.sum() + refused.sum()) / (len(inside) + len(outside))),
    }


def choose_threshold(inside: np.ndarray, right: np.ndarray, outside: np.ndarray) -> float:
    """The smallest θ with the highest accuracy over all texts; arguments as in `scope`.

    All θ between two neighbouring scores give the same answers, so the candidates are the midpoints
    between them, and 0, which refuses no text.
    """
    scores = np.unique(np.concatenate([inside, outside]).astype(np.float64))
    candidates = np.append(0.0, (scores[:-1] + scores[1:]) / 2)
    kept = np.sort(inside[right])
    refused = np.sort(outside)
    correct = len(kept) - np.searchsorted(kept, candidates) + np.searchsorted(refused, candidates)
    return float(candidates[correct.argmax()])
