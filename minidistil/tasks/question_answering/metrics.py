"""How well answers match: exact match and F1 of words, as SQuAD's evaluation scripts count them.

Both ignore case, punctuation, articles and spaces. F1 is that of the words that two answers share;
of several right answers the best counts. Where the text has no answer, only "" is right.
Source: the definitions of Rajpurkar et al., 2016, §6.1, and 2018; here as shares, there in percent.
"""

import re
import string
from collections import Counter

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
MARKS = str.maketrans("", "", string.punctuation)


def words(text):
    """The words of an answer that count."""
    return ARTICLES.sub(" ", text.lower().translate(MARKS)).split()


def squad_scores(said, right):
    """Answers (str) and for each the right ones (an empty list: none)  ->  exact, f1; where some
    have no answer also has_answer_f1 and no_answer_f1."""
    pairs = [
        (words(a), [words(b) for b in given] or [[]]) for a, given in zip(said, right, strict=True)
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
