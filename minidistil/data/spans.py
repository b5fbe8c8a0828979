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


def best_spans(parts, n_best=20, longest=30, no_answer=False):
    """[(Window, logits (T,2)), …] of one question  ->  at most n_best Spans, the best first.

    longest: pieces of an answer; no_answer: whether the text may have none.
    """
    scored, tops = {}, [[], []]
    for window, logits in parts:
        logits = np.asarray(logits, np.float64)
        held = np.flatnonzero(window.inside)
        seen = np.append(0, held) if no_answer else held
        for side in (0, 1):
            tops[side].append(logits[seen, side])
        start, end = (held[np.argsort(-logits[held, side], kind="stable")[:n_best]]
                      for side in (0, 1))  # fmt: skip
        first, last = (x.ravel() for x in np.meshgrid(start, end, indexing="ij"))
        fits = (last >= first) & (last - first < longest)
        for s, e in zip(first[fits], last[fits], strict=True):
            place = int(window.offsets[s, 0]), int(window.offsets[e, 1])
            score = logits[s, 0] + logits[e, 1]
            scored[place] = max(score, scored.get(place, -np.inf))
    if no_answer:
        scored[0, 0] = min(float(np.sum(logits[0])) for _, logits in parts)
    whole = sum(_log_sum(np.concatenate(top)) for top in tops)
    order = sorted(scored, key=lambda place: -scored[place])[:n_best]
    return [Span(float(np.exp(scored[place] - whole)), *place) for place in order]


def _log_sum(z):
    top = z.max()
    return top + np.log(np.exp(z - top).sum())
