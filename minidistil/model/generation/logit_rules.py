"""What a text forbids its next word, or makes less probable, before the word is chosen.

    repetition_penalty θ      a word that the text holds:  z/θ where z > 0, z·θ else
    no_repeat_ngram_size n    −∞ for a word that would complete n words in a row that the text holds
    min_new_tokens m          −∞ for the end before m words are there

z are logits, in a beam log-probabilities; a text is what a decoder has read (a prompt, or the one
token that it starts with) and what it has written. The rules apply in this order.
Source: Keskar et al., "CTRL", 2019, §4.1 (θ); Paulus et al., "A deep reinforced model for
abstractive summarization", 2018, §2.5 (n); Hugging Face's `generate`, whose numbers are matched.
"""

from typing import NamedTuple

import numpy as np


class Rules(NamedTuple):
    """The defaults leave every score as it is. ends: the words that end a text."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    ends: tuple = ()

    def __call__(self, scores, texts, written):
        """scores (R,V) of the next words of R texts, each with `written` new words  ->  (R,V).

        Raises ValueError where no word is left to a text.
        """
        penalty, n = self.repetition_penalty, self.no_repeat_ngram_size
        ends = [end for end in self.ends if end < scores.shape[1]]
        early = ends and written < self.min_new_tokens
        if penalty == 1 and n == 0 and not early:
            return scores
        scores = scores.copy()
        for row, text in zip(scores, texts, strict=True):
            if penalty != 1:
                seen = np.unique(text)
                z = row[seen]
                row[seen] = np.where(z < 0, z * penalty, z / penalty)
            if n:
                row[_completing(text, n)] = -np.inf
            if early:
                row[ends] = -np.inf
            if not np.isfinite(row).any():
                raise ValueError(
                    f"no_repeat_ngram_size {n} leaves a text of {len(text)} tokens none of "
                    f"{len(row)} words; give a larger one, or ask for fewer new tokens"
                )
        return scores


def _completing(text, n):
    """The words that would complete n words in a row which the text holds already."""
    last = text[len(text) - n + 1 :]
    return [text[i + n - 1] for i in range(len(text) - n + 1) if text[i : i + n - 1] == last]
