"""Exact match and F1 of answers, as SQuAD's evaluation scripts compute them.

Both ignore case, punctuation, articles and spaces. F1 counts the words that two answers share; of
several references the best counts. If the text has no answer, only "" is correct.
Source: the definitions of Rajpurkar et al., 2016, §6.1, and 2018; here as shares, there in percent.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
MARKS = str.maketrans("", "", string.punctuation)


def words(text: str) -> list[str]:
    """The words of an answer after normalisation."""
    return ARTICLES.sub(" ", text.lower().translate(MARKS)).split()


def squad_scores(predicted: Sequence[str], right: Sequence[Sequence[str]]) -> dict[str, float]:
    """Answers and their references (an empty list: no answer)  ->  exact, f1; if some have no
    answer also has_answer_f1 and no_answer_f1."""
    pairs = [
        (words(a), [words(b) for b in given] or [[]])
        for a, given in zip(predicted, right, strict=True)
    ]
    exact = [max(float(a == b) for b in given) for a, given in pairs]
    f1 = np.array([max(_f1(a, b) for b in given) for a, given in pairs])
    found = {"exact": float(np.mean(exact)), "f1": float(np.mean(f1))}
    there = np.array([bool(given) for given in right])
    if not there.all():
        found["no_answer_f1"] = float(np.mean(f1[~there]))
        if there.any():
            found["has_answer_f1"] = float(np.mean(f1[there]))
    return found


def _f1(a, b):
    if not a or not b:
        return float(a == b)
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b))
