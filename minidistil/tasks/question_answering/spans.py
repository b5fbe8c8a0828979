"""Decodes answers: the n best spans of a text from start and end logits, over all its windows.

A span's score is start + end logit, which compares spans of different windows; its probability is
that of the start times that of the end, each a softmax over the pieces of all windows. The score of
"no answer" is the smallest [CLS] score of the windows, so that all of them must agree.
Source: run_squad.py of Devlin et al., 2018; the probabilities as transformers' question-answering
pipeline gives them where one window holds the text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """An answer; start and end: characters of the text, both 0 for "no answer"."""

    score: float  # a probability
    start: int
    end: int


def best_spans(
    parts: Sequence[tuple], n_best: int = 20, longest: int = 30, no_answer: bool = False,
    whole_words: bool = False,
) -> list[Span]:  # fmt: skip
    """[(Window, logits (T,2)), …] of one question  ->  at most n_best Spans, the best first.

    Every span of at most `longest` pieces is scored. no_answer: whether the text may have none;
    whole_words: whether spans are extended to whole words. Of several spans with the same
    characters, of several windows or within a word, the best counts.
    """
    scores, places, tops = [], [], [[], []]
    for window, logits in parts:
        logits = np.asarray(logits, np.float64)
        held = np.flatnonzero(window.inside)
        seen = np.append(0, held) if no_answer else held
        for side in (0, 1):
            tops[side].append(logits[seen, side])
        first = np.arange(len(held))[:, None]
        last = first + np.arange(min(longest, len(held)))
        first, last = (held[x[last < len(held)]] for x in np.broadcast_arrays(first, last))
        ends = window.words if whole_words else window.offsets
        scores.append(logits[first, 0] + logits[last, 1])
        places.append(np.stack([ends[first, 0], ends[last, 1]], axis=1))
    scores, places = np.concatenate(scores), np.concatenate(places)
    found = _best(scores, places, n_best)
    if no_answer:
        found[0, 0] = min(float(np.sum(logits[0])) for _, logits in parts)
    whole = sum(_log_sum(np.concatenate(top)) for top in tops)
    order = sorted(found, key=lambda place: -found[place])[:n_best]
    return [Span(float(np.exp(found[place] - whole)), *place) for place in order]


def _best(scores, places, n_best):
    """scores (S,), places (S,2) with repetitions  ->  {place: score} of the n_best places that are
    not empty."""
    found = {}
    for i in np.argsort(-scores, kind="stable"):
        start, end = map(int, places[i])
        if start < end and (start, end) not in found:
            found[start, end] = float(scores[i])
            if len(found) == n_best:
                break
    return found


def _log_sum(z):
    top = z.max()
    return top + np.log(np.exp(z - top).sum())
