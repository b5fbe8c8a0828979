"""Token search: greedy decoding, sampling and beam search.

A decoder is a function `step(ids (R,), parents (R,)) -> logits (R,V)`: row r copies the state of
row parents[r], appends ids[r] and returns the logits of the next token. A search drops, keeps or
copies texts by naming their parents, so it needs no access to the decoder's state. `logits` (B,V)
are those of the first new tokens of B texts.

    next_tokens    one token a step: the argmax (greedy), or what `sample` draws
    beam_search    K texts continue together; of all their continuations, the K with the greatest
                   Σ log p remain. A text that ends has the score Σ log p / n^length_penalty, with
                   n new tokens, the end among them; the K best of these are kept.

A beam search stops where the best text that continues, at its present length, scores no higher than
the worst of K that have ended; with early_stopping, as soon as K have ended; with "never" and a
length_penalty above 0, the greatest length takes the place of the present one.
Source: Hugging Face's `generate`, whose tokens are matched.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from minidistil.model.generation.logit_rules import LogitRules


class SearchLimits(NamedTuple):
    """When a text ends, and which tokens it may have. eos: the ids that end a text."""

    max_new_tokens: int
    eos: tuple = ()
    rules: LogitRules = LogitRules()


class BeamOptions(NamedTuple):
    """The width of a beam search, and how it scores and stops."""

    beams: int
    length_penalty: float = 1.0
    early_stopping: bool | str = False


def next_tokens(step: Callable, logits: np.ndarray, texts: list, limits: SearchLimits,
                sample: Callable | None = None) -> Iterator[np.ndarray]:  # fmt: skip
    """Yields arrays (B,) of new tokens, one after another; −1 for a text that has ended.

    texts: B lists of ids. sample: (scores (R,V), the R texts' numbers) -> ids (R,); None: argmax.
    """
    texts, live = [list(text) for text in texts], np.arange(len(texts))
    for n in range(limits.max_new_tokens):
        scores = limits.rules(logits, [texts[b] for b in live], n)
        chosen = scores.argmax(axis=1) if sample is None else sample(scores, live)
        ids = np.full(len(texts), -1)
        ids[live] = chosen
        yield ids
        for b, token in zip(live, chosen, strict=True):
            texts[b].append(int(token))
        unfinished = np.flatnonzero(~np.isin(chosen, limits.eos))
        if not len(unfinished) or n == limits.max_new_tokens - 1:
            return
        live = live[unfinished]
        logits = step(chosen[unfinished], unfinished)


def by_text(steps: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The arrays of `next_tokens`  ->  B arrays of new tokens, one for each text."""
    ids = np.stack(list(steps), axis=1)
    return [row[row >= 0] for row in ids]


def beam_search(step: Callable, logits: np.ndarray, texts: list, limits: SearchLimits,
                options: BeamOptions) -> list[np.ndarray]:  # fmt: skip
    """B arrays of new tokens: for each text the best continuation that has ended, or has
    `max_new_tokens`."""
    # Imported here, as `ops.softmax` imports Numba, which `import minidistil` does without.
    from minidistil.ops.softmax import log_softmax

    searches = [Beam(text, limits, options) for text in texts]
    live = searches
    for n in range(limits.max_new_tokens):
        unfinished_texts = [text for search in live for text in search.texts]
        scores = limits.rules(log_softmax(logits), unfinished_texts, n)
        ids, parents, row, unfinished = [], [], 0, []
        for search in live:
            rows = len(search.texts)
            chosen = search.advance(scores[row : row + rows])
            if not search.done:
                unfinished.append(search)
                ids += [text[-1] for text in search.texts]
                parents += [row + i for i in chosen]
            row += rows
        live = unfinished
        if not live:
            break
        logits = step(np.array(ids, np.int64), np.array(parents, np.int64))
    return [np.array(search.ended[0][1][search.prompt :], np.int64) for search in searches]


class Beam:
    """The beam search of one text: the continuations, and the best of those that have ended."""

    def __init__(self, text: list, limits: SearchLimits, options: BeamOptions):
        self.limits, self.options, self.prompt = limits, options, len(text)
        self.texts, self.scores = [list(map(int, text))], np.zeros(1)
        self.ended = []  # (score, text), the best first
        self.done = False

    def advance(self, scores: np.ndarray) -> list[int]:
        """scores (k,V): log-probabilities of the next token of each of the k texts  ->  which of
        them each new text continues."""
        limits, beams = self.limits, self.options.beams
        total = (self.scores[:, None] + scores).ravel()
        # Enough candidates that `beams` texts continue where others end.
        wanted = max(2, 1 + len(limits.eos)) * beams
        best = np.argpartition(-total, min(wanted, len(total) - 1))[:wanted]
        best = best[np.argsort(-total[best], kind="stable")]
        texts, parents, kept = [], [], []
        for rank, candidate in enumerate(best):
            parent, token = divmod(int(candidate), scores.shape[1])
            text = [*self.texts[parent], token]
            if token in limits.eos or len(text) - self.prompt >= limits.max_new_tokens:
                if rank < beams:
                    self._end(total[candidate], text)
            elif len(texts) < beams:
                texts.append(text)
                parents.append(parent)
                kept.append(total[candidate])
        self.texts, self.scores = texts, np.array(kept)
        self.done = not texts or self._cannot_improve()
        return parents

    def _end(self, total, text):
        beams, length_penalty, early_stopping = self.options
        if early_stopping is True and len(self.ended) == beams:
            return
        score = total / (len(text) - self.prompt) ** length_penalty
        self.ended.append((score, text))
        self.ended.sort(key=lambda one: -one[0])
        del self.ended[beams:]

    def _cannot_improve(self):
        beams, length_penalty, early_stopping = self.options
        if len(self.ended) < beams:
            return False
        if early_stopping is True:
            return True
        longest = early_stopping == "never" and length_penalty > 0
        n = self.limits.max_new_tokens if longest else len(self.texts[0]) - self.prompt
        return self.scores[0] / n**length_penalty <= self.ended[-1][0]
