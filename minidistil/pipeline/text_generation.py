"""What a decoder says after a text."""

from inspect import signature

import numpy as np

from minidistil.model.generation import generate, stream
from minidistil.pipeline.predictor import Predictor, listed


class TextGeneration(Predictor):
    """A decoder's texts, whole or piece by piece."""

    def __call__(self, inputs, max_new_tokens=None, **options):
        """A text or a list  ->  [{"generated_text"}] for each, the prompt and what follows it.

        options: the others of `model.generation.stream`; what is not given is as the folder's
        generation_config.json says, else as there.
        """
        texts = listed(inputs)
        prompts = self.prompts(texts)
        if max_new_tokens is not None:
            options["max_new_tokens"] = max_new_tokens
        said = generate(self.model, prompts, **self.options(options))
        answers = [
            [{"generated_text": self.tokenizer.decode([*prompt, *words])}]
            for prompt, words in zip(prompts, said, strict=True)
        ]
        return answers if isinstance(inputs, list) else answers[0]

    def pieces(self, text, **options):
        """Yields what follows one text, piece by piece, none of which ends inside a letter."""
        ids, shown = [], ""
        for word in stream(self.model, self.prompts([text]), **self.options(options)):
            ids.append(int(word[0]))
            whole = self.tokenizer.decode(ids)
            if not whole.endswith("\N{REPLACEMENT CHARACTER}"):  # some bytes of a letter
                yield whole[len(shown) :]
                shown = whole

    def options(self, given):
        """The options that are given, and those of the folder where none is."""
        said = self.model.generation.given(signature(stream).parameters)
        return {"eos": self.model.ends} | said | given

    def prompts(self, texts):
        """B texts  ->  B arrays of ids. Raises ValueError for one that the model cannot hold."""
        encodings = self.tokenizer.encodings(texts)
        for number, encoding in enumerate(encodings):
            if encoding.overflowing:
                raise ValueError(
                    f"text {number} is longer than the model's {self.tokenizer.max_length} tokens; "
                    f"shorten it"
                )
        return [np.array(e.ids)[np.array(e.attention_mask) == 1] for e in encodings]
