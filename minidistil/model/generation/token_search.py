"""Which words a decoder writes: one after another, or the most probable text that is found.

A decoder is a function `step(ids (R,), parents (R,)) -> logits (R,V)`: row r continues a copy of
what row parents[r] was, with the word ids[r], and expects the next. So rows are dropped, kept or
copied by naming their parents, and a search need not know what the decoder remembers. `logits`
(B,V) are of the first new words, behind B texts that the decoder has read.

    words    one word a step: the argmax (greedy), or what `pick` draws
    beam     K texts continue together; of all their continuations the K best by Σ log p remain.
             A text that ends is kept with the score Σ log p / n^length_penalty, n its new words
             with the end; the K best of these are held.

A beam stops where the best text that continues, at its present length, scores no higher than the
worst of K that have ended; with early_stopping as soon as K have ended; with "never", and a
length_penalty above 0, the greatest length stands for the present one.
Source: Hugging Face's `generate`, whose words are matched.
"""

from typing import NamedTuple

import numpy as np

from minidistil.model.generation.logit_rules import Rules


class Writing(NamedTuple):
    """most: new words of a text; ends: the words that end it; rules: see there."""

    most: int
    ends: tuple = ()
    rules: Rules = Rules()


def words(step, logits, texts, writing, pick=None):
    """Yields arrays (B,) of new words, one after another; −1 for a text that has ended.

    texts: B lists of ids. pick: (scores (R,V), which texts (R,)) -> words (R,); None: the argmax.
    """
    texts, live = [list(text) for text in texts], np.arange(len(texts))
    for n in range(writing.most):
        scores = writing.rules(logits, [texts[b] for b in live], n)
        chosen = scores.argmax(axis=1) if pick is None else pick(scores, live)
        said = np.full(len(texts), -1)
        said[live] = chosen
        yield said
        for b, word in zip(live, chosen, strict=True):
            texts[b].append(int(word))
        going = np.flatnonzero(~np.isin(chosen, writing.ends))
        if not len(going) or n == writing.most - 1:
            return
        live = live[going]
        logits = step(chosen[going], going)


def listed(steps):
    """What `words` yields  ->  B arrays of new words."""
    said = np.stack(list(steps), axis=1)
    return [row[row >= 0] for row in said]


def beam(step, logits, texts, writing, beams, length_penalty=1.0, early_stopping=False):
    """B arrays of new words, each of the best text that ended, or that came to `most` words."""
    ends, most = writing.ends, writing.most
    searches = [Beam(text, ends, most, beams, length_penalty, early_stopping) for text in texts]
    live = searches
    for n in range(most):
        said = [text for search in live for text in search.texts]
        scores = writing.rules(_log_softmax(logits), said, n)
        ids, parents, row, going = [], [], 0, []
        for search in live:
            rows = len(search.texts)
            chosen = search.advance(scores[row : row + rows])
            if not search.done:
                going.append(search)
                ids += [text[-1] for text in search.texts]
                parents += [row + i for i in chosen]
            row += rows
        live = going
        if not live:
            break
        logits = step(np.array(ids, np.int64), np.array(parents, np.int64))
    return [np.array(search.ended[0][1][search.read :], np.int64) for search in searches]


class Beam:
    """The texts of one source: those that continue, and the best that have ended.

    start: what the decoder has read, a word or a list of them; eos: the words that end a text, one
    or a tuple of them.
    """

    def __init__(self, start, eos, most, beams, length_penalty, early_stopping):
        start = [start] if np.isscalar(start) else list(map(int, start))
        self.ends, self.most, self.beams = (eos,) if np.isscalar(eos) else eos, most, beams
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.texts, self.scores, self.read = [start], np.zeros(1), len(start)
        self.ended = []  # (score, text), the best first
        self.done = False

    def advance(self, scores):
        """scores (k,V), the log-probabilities of every next word  ->  which of the k texts those
        that continue are continuations of."""
        total = (self.scores[:, None] + scores).ravel()
        # As many more than continue as may end here.
        wanted = max(2, 1 + len(self.ends)) * self.beams
        best = np.argpartition(-total, min(wanted, len(total) - 1))[:wanted]
        best = best[np.argsort(-total[best], kind="stable")]
        texts, chosen, kept = [], [], []
        for rank, candidate in enumerate(best):
            parent, word = divmod(int(candidate), scores.shape[1])
            text = [*self.texts[parent], word]
            if word in self.ends or len(text) - self.read >= self.most:
                if rank < self.beams:
                    self._end(total[candidate], text)
            elif len(texts) < self.beams:
                texts.append(text)
                chosen.append(parent)
                kept.append(total[candidate])
        self.texts, self.scores = texts, np.array(kept)
        self.done = not texts or self._cannot_improve()
        return chosen

    def _end(self, total, text):
        if self.early_stopping is True and len(self.ended) == self.beams:
            return
        score = total / (len(text) - self.read) ** self.length_penalty
        self.ended.append((score, text))
        self.ended.sort(key=lambda one: -one[0])
        del self.ended[self.beams :]

    def _cannot_improve(self):
        if len(self.ended) < self.beams:
            return False
        if self.early_stopping is True:
            return True
        longest = self.early_stopping == "never" and self.length_penalty > 0
        n = self.most if longest else len(self.texts[0]) - self.read
        return self.scores[0] / n**self.length_penalty <= self.ended[-1][0]


def _log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
