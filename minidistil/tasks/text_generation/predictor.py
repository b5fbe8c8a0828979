"""What a decoder says after a text."""

from itertools import takewhile

import numpy as np

from minidistil.data.wordpiece import PREFIX
from minidistil.model.generation.generate_texts import generate, stream
from minidistil.model.generation.generation_options import eos_of
from minidistil.tasks.base_predictor import Predictor, listed


class TextGeneration(Predictor):
    def __call__(self, inputs, max_new_tokens=None, num_beams=None, repetition_penalty=None,
                 no_repeat_ngram_size=None, length_penalty=None, **options):  # fmt: skip
        """A text or a list  ->  [{"generated_text"}] for each, the prompt and what follows it.

        options: the others of `model.generation.generate_texts`; without one, what the model's
        generation_config.json says.
        """
        prompts = self.prompts(listed(inputs))
        said = generate(
            self.model, prompts, max_new_tokens=max_new_tokens, num_beams=num_beams,
            repetition_penalty=repetition_penalty, no_repeat_ngram_size=no_repeat_ngram_size,
            length_penalty=length_penalty, **{"eos": eos_of(self.model)} | options,
        )  # fmt: skip
        answers = [
            [{"generated_text": self.tokenizer.decode([*prompt, *words])}]
            for prompt, words in zip(prompts, said, strict=True)
        ]
        return answers if isinstance(inputs, list) else answers[0]

    def pieces(self, text, **options):
        """Yields what follows one text, piece by piece, none of which ends inside a letter, nor,
        where words are put together from pieces, inside a word."""
        (prompt,) = self.prompts([text])
        ids, shown = list(prompt), self.tokenizer.decode(prompt)
        by_word = getattr(self.tokenizer.backend.model, "continuing_subword_prefix", None) == PREFIX
        whole = shown
        for word in stream(self.model, [prompt], **{"eos": eos_of(self.model)} | options):
            ids.append(int(word[0]))
            whole = self.tokenizer.decode(ids)
            ready = whole[: whole.rfind(" ") + 1] if by_word else whole
            # Some bytes of a letter are shown as that character.
            if ready.startswith(shown) and not ready.endswith("\N{REPLACEMENT CHARACTER}"):
                yield ready[len(shown) :]
                shown = ready
        if by_word:  # the last word; a decoder may also have closed a gap that was shown
            same = takewhile(lambda pair: pair[0] == pair[1], zip(whole, shown, strict=False))
            yield whole[len(list(same)) :]

    def prompts(self, texts):
        """B texts  ->  B arrays of ids, without what a tokenizer puts around a text: a decoder
        continues the text, and nothing behind its end. Only ⟨end⟩ before it stays, which training
        has there, too. Raises ValueError for a text that the model cannot hold."""
        around = self.tokenizer.encodings(texts)[0]
        first = around.special_tokens_mask[0] and around.ids[0] == self.tokenizer.sep_id
        prompts = [
            np.array([self.tokenizer.sep_id] * first + ids, np.int64)
            for ids in self.tokenizer.content(texts)
        ]
        for number, prompt in enumerate(prompts):
            if len(prompt) > self.tokenizer.max_length:
                raise ValueError(
                    f"text {number} is longer than the model's {self.tokenizer.max_length} tokens; "
                    f"shorten it"
                )
        return prompts
