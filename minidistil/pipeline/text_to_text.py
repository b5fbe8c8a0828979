"""What an encoder–decoder makes of a text."""

import numpy as np

from minidistil.pipeline.predictor import TOGETHER, Predictor, listed


class TextToText(Predictor):
    """Answers {"generated_text"}; the tasks below call theirs by another name."""

    key = "generated_text"

    def __call__(self, inputs, num_beams=4, max_new_tokens=None, **search):
        """A text or a list  ->  an answer for each. search: the other options of
        `EncoderDecoder.generate`."""
        texts, answers = listed(inputs), []
        for start in range(0, len(texts), TOGETHER):
            encodings = self.tokenizer.encodings(texts[start : start + TOGETHER])
            self.warn_of_cuts(encodings, start)
            ids, mask = (
                np.array([getattr(e, name) for e in encodings], np.int64)
                for name in ("ids", "attention_mask")
            )
            said = self.model.generate(
                ids, mask, num_beams=num_beams, max_new_tokens=max_new_tokens, **search
            )
            for text in said:
                answers.append({self.key: self.tokenizer.decode(text)})
        return answers


class Translation(TextToText):
    key = "translation_text"


class Summarization(TextToText):
    key = "summary_text"
