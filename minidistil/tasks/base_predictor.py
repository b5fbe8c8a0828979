"""The base class of predictors: texts become batches, batches rows, and the model runs on them."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from minidistil.data.in_memory import padded
from minidistil.data.tokenizer import Tokenizer
from minidistil.data.windows import parts_of, usual_stride

BATCH_SIZE = 32  # texts computed at once


class Predictor:
    """A model with its tokenizer; each task's subclass defines `__call__`: inputs -> answers."""

    def __init__(self, model, tokenizer: Tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.called = "text {}".format  # a text's number -> its name in warnings

    def results(self, inputs: Sequence, max_length: int | None = None) -> Iterator[tuple]:
        """Yields (encodings, rows, network.Result) of each chunk; see `select_rows`.

        max_length: tokens that are read of a text; None: the model's length.
        """
        for start in range(0, len(inputs), BATCH_SIZE):
            texts, pairs = columns(inputs[start : start + BATCH_SIZE])
            encodings = self.tokenizer.encodings(texts, pairs, max_length)
            self.warn_of_cuts(encodings, start, max_length)
            batch = {
                name: np.array([getattr(e, name) for e in encodings], np.int64)
                for name in ("ids", "attention_mask", "type_ids")
            }
            types = batch["type_ids"] if self.tokenizer.token_types else None
            rows = self.model.pack(batch["ids"], batch["attention_mask"], types)
            yield encodings, rows, self.model.infer(rows, self.select_rows(rows))

    def windowed(
        self, inputs: Sequence, max_length: int | None, stride: int | None
    ) -> Iterator[tuple]:
        """Computes texts of any length in windows of max_length tokens that share `stride` pieces.

        None: the model's length, and `usual_stride`. Yields for each chunk its uncut encodings, its
        Parts, and a list of (rows, network.Result) of at most BATCH_SIZE windows each.
        """
        length = self.tokenizer.checked_length(max_length)
        stride = usual_stride(length) if stride is None else stride
        for start in range(0, len(inputs), BATCH_SIZE):
            encodings = list(self.tokenizer.whole(*columns(inputs[start : start + BATCH_SIZE])))
            parts, runs = parts_of(encodings, self.tokenizer, length, stride), []
            self._warn_of_windows(parts, start, length)
            for first in range(0, len(parts.ids), BATCH_SIZE):
                some = range(first, min(first + BATCH_SIZE, len(parts.ids)))
                rows = self.model.pack_batch(padded(some, parts.ids, parts.types, self.tokenizer))
                runs.append((rows, self.model.infer(rows)))
            yield encodings, parts, runs

    def _warn_of_windows(self, parts, start, length):
        """Warn of each text longer than `length` tokens; start: the number of the first text."""
        counts = np.bincount(parts.owners)
        for number in np.union1d(np.flatnonzero(counts > 1), parts.cut).astype(int):
            how = "both of its texts are cut" if number in parts.cut else (
                f"it is read in {counts[number]} windows")  # fmt: skip
            warnings.warn(
                f"{self.called(start + number)} is longer than {self.limit(length)} tokens; {how}",
                stacklevel=5,
            )

    def limit(self, max_length: int | None) -> str:
        """The number of tokens that are read, as a warning shows it."""
        own = self.tokenizer.max_length
        return f"the model's {own}" if max_length in (None, own) else str(max_length)

    def warn_of_cuts(self, encodings: Sequence, start: int, max_length: int | None = None) -> None:
        """Warn of each text that is cut; start: the number of the first text."""
        for number, encoding in enumerate(encodings, start):
            if encoding.overflowing:
                warnings.warn(
                    f"{self.called(number)} is longer than {self.limit(max_length)} tokens; it "
                    f"reads the beginning", stacklevel=5,
                )  # fmt: skip

    def select_rows(self, rows) -> np.ndarray | None:
        """The rows (M,) to compute vocabulary logits for; None for all of them."""
        return None


def listed(inputs) -> list:
    """One input or a list  ->  a list. Raises ValueError for an empty one."""
    inputs = inputs if isinstance(inputs, list) else [inputs]
    if not inputs:
        raise ValueError("there are no texts; give at least one")
    return inputs


def columns(inputs: Sequence) -> tuple[Sequence[str], list[str] | None]:
    """Texts or {"text", "text_pair"}  ->  texts, and the pairs or None."""
    if not any(isinstance(x, dict) for x in inputs):
        return inputs, None
    if not all(isinstance(x, dict) and "text" in x for x in inputs):
        raise ValueError('each input must be a string, or each {"text": …, "text_pair": …}')
    pairs = [x.get("text_pair") for x in inputs]
    if len({pair is None for pair in pairs}) > 1:
        raise ValueError("either every input has a text_pair or none has")
    return [x["text"] for x in inputs], None if pairs[0] is None else pairs
