"""Predicts extractive summaries: the sentences of a text with the highest scores."""

import warnings

import numpy as np

from minidistil.data.in_memory import padded
from minidistil.data.text_pairs import NAMES
from minidistil.io.counts import counted
from minidistil.tasks.base_predictor import BATCH_SIZE, Predictor, listed
from minidistil.tasks.extractive_summarization.data import choose, packed, sentences_of


def summary_scores(model, rows, result) -> list[np.ndarray]:
    """Each sentence's probability of being in the summary: an array (S,) for each document."""
    starts, place = rows.starts(), model.ops.place
    probs = place.fetch(model.ops.softmax.forward(result.logits)[0])[starts, 1]
    return np.split(probs, np.searchsorted(starts, rows.bounds[1:-1]))


class ExtractiveSummarization(Predictor):
    """Chooses sentences of documents."""

    def __call__(
        self, inputs: str | dict | list, sentences: int = 3, trigram_blocking: bool = False,
        max_length: int | None = None,
    ) -> dict | list:  # fmt: skip
        """A text, or a list of documents: texts, lists of sentences, or {"text": either}  ->
        {"summary_text", "sentences": [{"index", "score", "text"}]} for each.

        max_length: tokens that are read of a document; None: the model's length.
        """
        documents = [_document(i, x) for i, x in enumerate(listed(inputs))]
        answers = []
        for start in range(0, len(documents), BATCH_SIZE):
            some = documents[start : start + BATCH_SIZE]
            ids, types, begins = zip(*packed(some, self.tokenizer, max_length), strict=True)
            for number, (document, places) in enumerate(zip(some, begins, strict=True), start):
                self._warn(number, len(document), int(places.max()) + 1, max_length)
            rows = self.model.pack_batch(padded(range(len(some)), ids, types, self.tokenizer))
            scores = summary_scores(self.model, rows, self.model.infer(rows))
            for document, mine in zip(some, scores, strict=True):
                best = choose(mine, document, sentences, trigram_blocking)
                chosen = [{"index": i, "score": float(mine[i]), "text": document[i]} for i in best]
                text = " ".join(one["text"] for one in chosen)
                answers.append({"summary_text": text, "sentences": chosen})
        return answers if isinstance(inputs, list) else answers[0]

    def _warn(self, number, there, read, max_length):
        if read < there:
            warnings.warn(
                f"{self.called(number)} is longer than {self.limit(max_length)} tokens; it reads "
                f"{read} of {counted(there, 'sentence')}", stacklevel=3,
            )  # fmt: skip


def _document(number, given):
    """A text, its sentences, or an object that holds either  ->  sentences."""
    if isinstance(given, dict):
        given = next((given[name] for name, _ in NAMES if name in given), None)
    try:
        return sentences_of(given)
    except ValueError as error:
        raise ValueError(f"text {number}: {error}") from None
