"""Intents that a classifier does not know: below a threshold it says so.

    answer = argmaxₖ pₖ   where maxₖ pₖ ≥ θ,   else "out of scope"

The classifier learns its intents alone; θ is chosen on other texts, some of them out of scope, so
that the most of all are answered rightly. Source: Larson et al., "An evaluation dataset for intent
classification and out-of-scope prediction", 2019, §3 (oos-threshold) and §4, whose two numbers
these are: accuracy on what is in scope, where a refusal is wrong, and recall of what is not.
"""

import numpy as np


def scope(inside, right, outside, threshold):
    """How well θ tells intents from the rest.

    inside (B,) and outside (M,): the largest probability of texts in and out of scope; right (B,):
    whether the best intent is the label's  ->  in_scope_accuracy, out_of_scope_recall, accuracy.
    """
    kept, refused = right & (inside >= threshold), outside < threshold
    return {
        "in_scope_accuracy": float(kept.mean()),
        "out_of_scope_recall": float(refused.mean()),
        "accuracy": float((kept.sum() + refused.sum()) / (len(inside) + len(outside))),
    }


def choose_threshold(inside, right, outside):
    """θ with the highest accuracy over all texts, the least of several; arguments as in `scope`.

    Between two neighbouring scores every θ gives the same answers, so the candidates are the
    middles between them, and 0, which refuses nothing.
    """
    scores = np.unique(np.concatenate([inside, outside]).astype(np.float64))
    candidates = np.append(0.0, (scores[:-1] + scores[1:]) / 2)
    kept = np.sort(inside[right])
    refused = np.sort(outside)
    rightly = len(kept) - np.searchsorted(kept, candidates) + np.searchsorted(refused, candidates)
    return float(candidates[rightly.argmax()])
