"""Predicts output texts with an encoder–decoder."""

import numpy as np

from minidistil.tasks.base_predictor import BATCH_SIZE, Predictor, listed

BEAMS = 4


class TextToText(Predictor):
    """Answers {"generated_text"}; subclasses have another key."""

    key = "generated_text"

    def __call__(
        self, inputs: str | list, num_beams: int | None = None, max_new_tokens: int | None = None,
        repetition_penalty: float | None = None, no_repeat_ngram_size: int | None = None,
        length_penalty: float | None = None, max_source_length: int | None = None, **options,
    ) -> list[dict]:  # fmt: skip
        """A text or a list  ->  an answer for each.

        max_source_length: tokens that are read of a text; None: the model's length.
        options: the others of `EncoderDecoder.generate`; defaults are those of the model's
        generation_config.json, and BEAMS for num_beams.
        """
        texts, answers = listed(inputs), []
        if num_beams is None and self.model.generation.num_beams is None:
            num_beams = 1 if options.get("temperature") else BEAMS
        options |= {
            "num_beams": num_beams, "max_new_tokens": max_new_tokens,
            "repetition_penalty": repetition_penalty, "length_penalty": length_penalty,
            "no_repeat_ngram_size": no_repeat_ngram_size,
        }  # fmt: skip
        for start in range(0, len(texts), BATCH_SIZE):
            encodings = self.tokenizer.encodings(
                texts[start : start + BATCH_SIZE], max_length=max_source_length
            )
            self.warn_of_cuts(encodings, start, max_source_length)
            ids, mask = (
                np.array([getattr(e, name) for e in encodings], np.int64)
                for name in ("ids", "attention_mask")
            )
            for text in self.model.generate(ids, mask, **options):
                answers.append({self.key: self.tokenizer.decode(text)})
        return answers
