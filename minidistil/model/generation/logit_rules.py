"""Rules that change the logits of the next token before it is chosen.

    repetition_penalty θ      a token that the text holds: z/θ where z > 0, z·θ elsewhere
    no_repeat_ngram_size n    −∞ for a token that completes an n-gram which the text holds
    min_new_tokens m          −∞ for end tokens before there are m new tokens

z are logits, in a beam search log-probabilities; a text is the prompt (of an encoder–decoder, the
start token) and the new tokens. The rules apply in this order.
Source: Keskar et al., "CTRL", 2019, §4.1 (θ); Paulus et al., "A deep reinforced model for
abstractive summarization", 2018, §2.5 (n); Hugging Face's `generate`, whose numbers are matched.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LogitRules(NamedTuple):
    """The defaults change nothing. eos: the ids that end a text."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    eos: tuple = ()

    def __call__(self, scores: np.ndarray, texts: Sequence, new_tokens: int) -> np.ndarray:
        """scores (R,V) of the next tokens of R texts, each with `new_tokens` so far  ->  (R,V).

        Raises ValueError where a text has no token left.
        """
        penalty, n = self.repetition_penalty, self.no_repeat_ngram_size
        eos = [token for token in self.eos if token < scores.shape[1]]
        early = eos and new_tokens < self.min_new_tokens
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
                row[eos] = -np.inf
            if not np.isfinite(row).any():
                raise ValueError(
                    f"no_repeat_ngram_size {n} leaves a text of {len(text)} tokens none of "
                    f"{len(row)} words; give a larger one, or ask for fewer new tokens"
                )
        return scores


def _completing(text, n):
    """The tokens that would complete an n-gram which the text holds already."""
    last = text[len(text) - n + 1 :]
    return [text[i + n - 1] for i in range(len(text) - n + 1) if text[i : i + n - 1] == last]
