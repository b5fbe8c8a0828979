"""What an encoder–decoder makes of a text."""

from inspect import signature

import numpy as np

from minidistil.pipeline.predictor import TOGETHER, Predictor, listed


class TextToText(Predictor):
    """Answers {"generated_text"}; the tasks below call theirs by another name."""

    key = "generated_text"

    def __call__(self, inputs, num_beams=None, max_new_tokens=None, **search):
        """A text or a list  ->  an answer for each.

        search: the other options of `EncoderDecoder.generate`; what is not given is as the
        folder's generation_config.json says, else as there, with 4 beams.
        """
        search |= {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
        search = {name: value for name, value in search.items() if value is not None}
        said = self.model.generation.given(signature(self.model.generate).parameters)
        search = {"num_beams": 4} | said | search
        texts, answers = listed(inputs), []
        for start in range(0, len(texts), TOGETHER):
            encodings = self.tokenizer.encodings(texts[start : start + TOGETHER])
            self.warn_of_cuts(encodings, start)
            ids, mask = (
                np.array([getattr(e, name) for e in encodings], np.int64)
                for name in ("ids", "attention_mask")
            )
            for text in self.model.generate(ids, mask, **search):
                answers.append({self.key: self.tokenizer.decode(text)})
        return answers


class Translation(TextToText):
    key = "translation_text"


class Summarization(TextToText):
    key = "summary_text"
