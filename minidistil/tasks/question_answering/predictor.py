"""Predicts answers to questions: spans of a text of any length."""

import numpy as np

from minidistil.data.in_memory import padded
from minidistil.data.sources import half
from minidistil.data.windows import usual_stride
from minidistil.tasks.base_predictor import BATCH_SIZE, Predictor, listed
from minidistil.tasks.question_answering.data import windows
from minidistil.tasks.question_answering.spans import best_spans

LENGTH = 384  # pieces of a window


class QuestionAnswering(Predictor):
    """Finds the best spans over all windows of a text."""

    def __call__(
        self, inputs: dict | list | None = None, question: str | None = None,
        context: str | None = None, top_k: int = 1, max_answer_len: int = 15,
        handle_impossible_answer: bool = False, max_seq_len: int | None = None, *,
        doc_stride: int | None = None, align_to_words: bool = True,
    ) -> dict | list:  # fmt: skip
        """inputs: {"question", "context"} or a list of them; or question= and context=.

        top_k: 1 gives one answer, more a list. max_seq_len, doc_stride: the windows' length and the
        pieces that they share. align_to_words: an answer begins and ends with a whole word, except
        in scripts without spaces.
        """
        inputs = {"question": question, "context": context} if inputs is None else inputs
        pairs = [_pair(self.called(i), x) for i, x in enumerate(listed(inputs))]
        if top_k < 1 or max_answer_len < 1:
            raise ValueError(
                f"top_k and max_answer_len must be 1 or more, not {top_k} and {max_answer_len}"
            )
        length = max_seq_len or min(LENGTH, self.tokenizer.max_length)
        stride = usual_stride(length) if doc_stride is None else doc_stride
        parts = [[] for _ in pairs]
        for window, logits in self._logits(
            windows(pairs, self.tokenizer, length, stride, self.called)
        ):
            parts[window.number].append((window, logits))
        answers = []
        for (_, text), part in zip(pairs, parts, strict=True):
            best = best_spans(
                part, max(top_k, 20), max_answer_len, handle_impossible_answer, align_to_words
            )
            answers.append([
                {"score": span.score, "start": span.start, "end": span.end,
                 "answer": text[span.start : span.end]}
                for span in best[:top_k]
            ])  # fmt: skip
        answers = [found[0] if top_k == 1 else found for found in answers]
        return answers if isinstance(inputs, list) else answers[0]

    def _logits(self, every):
        """Each window with its logits (T,2)."""
        for start in range(0, len(every), BATCH_SIZE):
            some = every[start : start + BATCH_SIZE]
            ids, types = ([getattr(w, name) for w in some] for name in ("ids", "types"))
            batch = padded(range(len(some)), ids, types, self.tokenizer)
            rows = self.model.pack(
                batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")
            )
            logits = self.model.ops.place.fetch(self.model.infer(rows).logits)
            yield from zip(some, np.split(logits, rows.bounds[1:-1]), strict=True)


def _pair(place, item):
    """{"question", "context"}  ->  question, text. Raises ValueError for anything else."""
    fits = isinstance(item, dict) and all(
        isinstance(item.get(name), str) and item[name].strip() for name in ("question", "context")
    )
    if not fits:
        raise ValueError(f'{place} must be {{"question": …, "context": …}}, neither empty')
    if half(item["question"]) or half(item["context"]):
        raise ValueError(f"{place} holds half of a surrogate pair, which is no text")
    return item["question"].strip(), item["context"]
