"""What a decoder says after a text."""

import numpy as np

from minidistil.model.generation import generate, stream
from minidistil.pipeline.predictor import Predictor, listed


class TextGeneration(Predictor):
    def __call__(self, inputs, max_new_tokens=50, **options):
        """A text or a list  ->  [{"generated_text"}] for each, the prompt and what follows it.

        options: the others of `model.generation.stream`.
        """
        texts = listed(inputs)
        prompts = self.prompts(texts)
        options = {"eos": self.model.config.eos_token_id} | options
        said = generate(self.model, prompts, max_new_tokens=max_new_tokens, **options)
        answers = [
            [{"generated_text": self.tokenizer.decode([*prompt, *words])}]
            for prompt, words in zip(prompts, said, strict=True)
        ]
        return answers if isinstance(inputs, list) else answers[0]

    def pieces(self, text, **options):
        """Yields what follows one text, piece by piece, none of which ends inside a letter."""
        ids, shown = [], ""
        options = {"eos": self.model.config.eos_token_id} | options
        for word in stream(self.model, self.prompts([text]), **options):
            ids.append(int(word[0]))
            whole = self.tokenizer.decode(ids)
            if not whole.endswith("\N{REPLACEMENT CHARACTER}"):  # some bytes of a letter
                yield whole[len(shown) :]
                shown = whole

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
