"""What an encoder–decoder makes of a text."""

import numpy as np

from minidistil.tasks.base_predictor import TOGETHER, Predictor, listed

BEAMS = 4


class TextToText(Predictor):
    """Answers {"generated_text"}; the tasks below call theirs by another name."""

    key = "generated_text"

    def __call__(self, inputs, num_beams=None, max_new_tokens=None, repetition_penalty=None,
                 no_repeat_ngram_size=None, length_penalty=None, max_source_length=None,
                 **options):  # fmt: skip
        """A text or a list  ->  an answer for each.

        max_source_length: tokens that are read of a text; None: all that the model reads.
        options: the others of `EncoderDecoder.generate`; without one, what the model's
        generation_config.json says; num_beams is else BEAMS.
        """
        texts, answers = listed(inputs), []
        if num_beams is None and self.model.generation.num_beams is None:
            num_beams = 1 if options.get("temperature") else BEAMS
        options |= {
            "num_beams": num_beams, "max_new_tokens": max_new_tokens,
            "repetition_penalty": repetition_penalty, "length_penalty": length_penalty,
            "no_repeat_ngram_size": no_repeat_ngram_size,
        }  # fmt: skip
        for start in range(0, len(texts), TOGETHER):
            encodings = self.tokenizer.encodings(
                texts[start : start + TOGETHER], max_length=max_source_length
            )
            self.warn_of_cuts(encodings, start, max_source_length)
            ids, mask = (
                np.array([getattr(e, name) for e in encodings], np.int64)
                for name in ("ids", "attention_mask")
            )
            for text in self.model.generate(ids, mask, **options):
                answers.append({self.key: self.tokenizer.decode(text)})
        return answers


class Translation(TextToText):
    key = "translation_text"


class Summarization(TextToText):
    key = "summary_text"
