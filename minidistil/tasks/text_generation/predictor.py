"""Predicts continuations of texts with a decoder."""

from collections.abc import Iterator, Sequence
from itertools import takewhile

import numpy as np

from minidistil.data.wordpiece import PREFIX
from minidistil.model.generation.generate_texts import generate, stream
from minidistil.model.generation.generation_options import eos_of
from minidistil.tasks.base_predictor import Predictor, listed


class TextGeneration(Predictor):
    """Continues prompts by greedy search, beam search or sampling."""

    def __call__(
        self, inputs: str | list, max_new_tokens: int | None = None, num_beams: int | None = None,
        repetition_penalty: float | None = None, no_repeat_ngram_size: int | None = None,
        length_penalty: float | None = None, **options,
    ) -> list:  # fmt: skip
        """A text or a list  ->  [{"generated_text"}] of each: the prompt and its continuation.

        options: the others of `model.generation.generate_texts`; defaults are those of the model's
        generation_config.json.
        """
        prompts = self.prompts(listed(inputs))
        continuations = generate(
            self.model, prompts, max_new_tokens=max_new_tokens, num_beams=num_beams,
            repetition_penalty=repetition_penalty, no_repeat_ngram_size=no_repeat_ngram_size,
            length_penalty=length_penalty, **{"eos": eos_of(self.model)} | options,
        )  # fmt: skip
        answers = [
            [{"generated_text": self.tokenizer.decode([*prompt, *words])}]
            for prompt, words in zip(prompts, continuations, strict=True)
        ]
        return answers if isinstance(inputs, list) else answers[0]

    def pieces(self, text: str, **options) -> Iterator[str]:
        """Yields the continuation of one text in parts, none of which ends inside a character, nor
        with WordPiece inside a word."""
        (prompt,) = self.prompts([text])
        ids, shown = list(prompt), self.tokenizer.decode(prompt)
        by_word = getattr(self.tokenizer.backend.model, "continuing_subword_prefix", None) == PREFIX
        whole = shown
        for word in stream(self.model, [prompt], **{"eos": eos_of(self.model)} | options):
            ids.append(int(word[0]))
            whole = self.tokenizer.decode(ids)
            ready = whole[: whole.rfind(" ") + 1] if by_word else whole
            # The first bytes of a character decode to the replacement character.
            if ready.startswith(shown) and not ready.endswith("\N{REPLACEMENT CHARACTER}"):
                yield ready[len(shown) :]
                shown = ready
        if by_word:  # the last word; decoding it may also have removed a space shown before
            same = takewhile(lambda pair: pair[0] == pair[1], zip(whole, shown, strict=False))
            yield whole[len(list(same)) :]

    def prompts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """B texts  ->  B arrays of ids, without the special tokens around a text, except for ⟨end⟩
        before it, which training has as well. Raises ValueError for a text longer than the model's
        positions."""
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
