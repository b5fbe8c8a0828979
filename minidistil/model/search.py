"""Which words a decoder says: the likeliest at each place, or the likeliest text that is found.

A decoder is a function `step(ids (R,), parents (R,)) -> logits (R,V)`: row r goes on as a copy of
what row parents[r] was, says ids[r], and expects its next word. So rows are dropped, kept or
copied by naming their parents, and a search need not know what the decoder remembers.

    greedy   the likeliest next word, until it is the end
    beam     K texts go on together; of all their continuations the K best by Σ log p go on.
             A text that ends is kept with the score Σ log p / n^length_penalty, n its words with
             the end; the K best of these are held.

A beam stops where the best text still going on, at its present length, scores no higher than the
worst of K that have ended; with early_stopping as soon as K have ended.
Source: Hugging Face's `generate`, whose words are matched (with early_stopping False or True).
"""

import numpy as np


def greedy(step, start, eos, most, no_repeat=0):
    """start (B,)  ->  list of B arrays, each the words that follow its start, at most `most`.

    eos: the word that ends a text, or several."""
    said = [[int(word)] for word in start]
    live, ids, parents = np.arange(len(said)), np.asarray(start), np.arange(len(said))
    for _ in range(most):
        logits = _without_repeats(step(ids, parents), [said[b] for b in live], no_repeat)
        ids = logits.argmax(axis=1)
        for b, word in zip(live, ids, strict=True):
            said[b].append(int(word))
        parents = np.flatnonzero(~np.isin(ids, eos))
        live, ids = live[parents], ids[parents]
        if not len(live):
            break
    return [np.array(words[1:], np.int64) for words in said]


def beam(step, start, eos, most, beams, length_penalty=1.0, early_stopping=False, no_repeat=0):
    """The same, each the best text that ended, or that came to `most` words."""
    searches = [Beam(int(word), eos, most, beams, length_penalty, early_stopping) for word in start]
    ids, parents, live = np.asarray(start), np.arange(len(start)), searches
    for _ in range(most):
        said = [text for search in live for text in search.texts]
        scores = _log_softmax(step(ids, parents))
        scores = _without_repeats(scores, said, no_repeat)
        ids, parents, row, going = [], [], 0, []
        for search in live:
            rows = len(search.texts)
            chosen = search.advance(scores[row : row + rows])
            if not search.done:
                going.append(search)
                ids += [text[-1] for text in search.texts]
                parents += [row + i for i in chosen]
            row += rows
        live, ids, parents = going, np.array(ids, np.int64), np.array(parents, np.int64)
        if not live:
            break
    return [np.array(search.ended[0][1][1:], np.int64) for search in searches]


class Beam:
    """The texts of one source: those that go on, and the best that have ended."""

    def __init__(self, start, eos, most, beams, length_penalty, early_stopping):
        self.eos, self.most, self.beams = set(np.ravel(eos).tolist()), most, beams
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.texts, self.scores = [[start]], np.zeros(1)
        self.ended = []  # (score, text), the best first
        self.done = False

    def advance(self, scores):
        """scores (k,V), the log-probabilities of every next word  ->  which of the k texts those
        that go on are continuations of."""
        total = (self.scores[:, None] + scores).ravel()
        most = (1 + len(self.eos)) * self.beams  # of which those may end here that do not go on
        best = np.argpartition(-total, min(most, len(total) - 1))[:most]
        best = best[np.argsort(-total[best], kind="stable")]
        texts, chosen, kept = [], [], []
        for rank, candidate in enumerate(best):
            parent, word = divmod(int(candidate), scores.shape[1])
            text = [*self.texts[parent], word]
            if word in self.eos or len(text) > self.most:
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
        if self.early_stopping and len(self.ended) == self.beams:
            return
        score = total / (len(text) - 1) ** self.length_penalty
        self.ended.append((score, text))
        self.ended.sort(key=lambda one: -one[0])
        del self.ended[self.beams :]

    def _cannot_improve(self):
        if len(self.ended) < self.beams:
            return False
        words = len(self.texts[0]) - 1
        hope = self.scores[0] / words**self.length_penalty
        return self.early_stopping or hope <= self.ended[-1][0]


def _log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def _without_repeats(scores, said, n):
    """Scores (R,V) in which no word completes a run of n words that its text already holds."""
    if n == 0:
        return scores
    scores = scores.copy()
    for row, text in zip(scores, said, strict=True):
        last = text[len(text) - n + 1 :]
        for i in range(len(text) - n + 1):
            if text[i : i + n - 1] == last:
                row[text[i + n - 1]] = -np.inf
    return scores
