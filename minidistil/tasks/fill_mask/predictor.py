"""Predicts the top-k words for each [MASK]."""

import numpy as np

from minidistil.tasks.base_predictor import Predictor, listed


class FillMask(Predictor):
    """Fills the masks of texts."""

    def __call__(self, inputs: str | list, top_k: int = 5) -> list:
        """A text or a list  ->  for each [MASK] its top_k words, {"score", "token", "token_str",
        "sequence"}. Raises ValueError for a text without [MASK]."""
        texts = listed(inputs)
        V, whole = self.model.config.vocab_size, isinstance(top_k, int) and top_k is not True
        if not whole or not 1 <= top_k <= V:
            raise ValueError(f"top_k must be 1 to {V}, the words there are, not {top_k!r}")
        answers = []
        for encodings, rows, result in self.results(texts):
            probs = self.model.ops.place.fetch(self.model.ops.softmax.forward(result.logits)[0])
            owner = rows.sequence[self.select_rows(rows)]
            for b, encoding in enumerate(encodings):
                mine = probs[owner == b]
                if not len(mine):
                    raise ValueError(
                        f"text {len(answers)} has no {self.tokenizer.names['mask']} for the model "
                        f"to fill; put one where a word is missing"
                    )
                answers.append(self._answer(np.array(encoding.ids), mine, top_k))
        return answers[0] if len(texts) == 1 else answers

    def select_rows(self, rows) -> np.ndarray:
        """The rows of [MASK]s."""
        return np.flatnonzero(rows.ids == self.tokenizer.mask_id)

    def _answer(self, ids, probs, top_k):
        """ids (T,), probs (masks,V)  ->  a list of words for one mask, else a list of lists."""
        places = np.flatnonzero(ids == self.tokenizer.mask_id)
        answer = []
        for place, p in zip(places, probs, strict=True):
            words = []
            for token in np.argsort(-p, kind="stable")[:top_k]:
                filled = ids.copy()
                filled[place] = token
                filled = filled[filled != self.tokenizer.pad_id]
                words.append({
                    "score": float(p[token]), "token": int(token),
                    "token_str": self.tokenizer.decode([token], skip_special_tokens=False),
                    "sequence": self.tokenizer.decode(filled, len(places) == 1),
                })  # fmt: skip
            answer.append(words)
        return answer[0] if len(places) == 1 else answer
