"""From logits for starts and ends to answers: the n best spans of a text, over all its windows.

A span's score is start + end logit, so that windows compete by how sure they are; its probability
is that of the start times that of the end, each a softmax over the pieces of all windows. "No
answer" has the least of the windows' scores of [CLS]: all of them must say so.
Source: run_squad.py of Devlin et al., 2018; the probabilities as transformers' question-answering
pipeline gives them where one window holds the text.
"""

from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """start and end: characters of the text; both 0 for "no answer"."""

    score: float  # a probability
    start: int
    end: int


def best_spans(parts, n_best=20, longest=30, no_answer=False, whole_words=False):
    """[(Window, logits (T,2)), …] of one question  ->  at most n_best Spans, the best first.

    Every span of at most `longest` pieces is tried. no_answer: whether the text may have none;
    whole_words: whether a span's ends are those of the words that its first and last piece belong
    to. Of several spans of pieces at one place, in several windows or words, the best counts.
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
    """scores (S,), places (S,2) with repetitions  ->  {place: score} of the n_best places; a place
    without characters is none."""
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
