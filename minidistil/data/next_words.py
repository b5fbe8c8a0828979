"""Training data of causal language modelling (CLM): windows over a stream of documents.

    stream    ⟨end⟩ document ⟨end⟩ document ⟨end⟩ …     ⟨end⟩: [SEP], in GPT-2 <|endoftext|>
    packed    windows of T tokens across the documents: a batch without padding
    alone     windows within ⟨end⟩ document ⟨end⟩, as the original distiller prepares its text

The labels are the tokens themselves; the model's loss compares row n with the label of row n+1.
Two neighbouring windows share c tokens, which have labels in the first of them alone. So every
token of the text is predicted once, from at least c tokens before it. Training has c = 1.
Source of the windows: transformers' run_clm.py (packed, c = 0, the remainder dropped) and its
documentation of perplexity, whose stride is T − c.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import EVALUATION_SEED, Batching, collate, plan, sample
from minidistil.data.corpus import Corpus
from minidistil.data.masking import IGNORED
from minidistil.data.tokenizer import Tokenizer


class Stream(NamedTuple):
    """How windows are cut from the stream: T tokens each; packed: see above; context: c."""

    max_length: int
    packed: bool = True
    context: int = 1


class NextWords:
    """Training data of a decoder: a corpus of whole documents (`Corpus.build(max_length=None)`).

    indices, held_out: its documents to train on and to evaluate on. stream.context is c in
    evaluation. evaluation_tokens: how many tokens to evaluate on; None takes all that are held out.
    Raises ValueError where c is not between 1 and T−1.
    """

    labelled = True  # the labels are the text itself

    def __init__(
        self, corpus: Corpus, indices: Sequence[int], tokenizer: Tokenizer, batching: Batching,
        stream: Stream, *, held_out: Sequence[int] = (), evaluation_tokens: int | None = 65_536,
    ):  # fmt: skip
        if not 1 <= stream.context < stream.max_length:
            raise ValueError(
                f"windows of {stream.max_length} tokens can share 1 to {stream.max_length - 1}, "
                f"not {stream.context}"
            )
        if tokenizer.vocab_size != corpus.vocab_size:
            raise ValueError(
                f"the corpus was made with {corpus.vocab_size} words, the tokenizer has "
                f"{tokenizer.vocab_size}; build the corpus with this tokenizer"
            )
        self.batching, self.evaluation_tokens = batching, evaluation_tokens
        self.pad_id = tokenizer.pad_id
        self.training = Windows(corpus, indices, tokenizer.sep_id, stream._replace(context=1))
        self.held_out = Windows(corpus, held_out, tokenizer.sep_id, stream)

    @property
    def seed(self) -> int:
        """The seed of the order of windows."""
        return self.batching.seed

    def batches(self, epoch: int) -> list[np.ndarray]:
        """One epoch: a list of arrays of the training windows' numbers."""
        return plan(self.training.lengths, epoch=epoch, **vars(self.batching))

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these windows: input_ids, attention_mask, labels; the same at every step."""
        return self._batch(self.training, indices)

    def evaluation_batches(self) -> list[dict[str, np.ndarray]]:
        """The held-out batches, the same at every call."""
        lengths = self.held_out.lengths
        if not len(lengths):
            return []
        chosen = sample(lengths, self.evaluation_tokens)
        batches = plan(lengths[chosen], tokens=self.batching.tokens, seed=EVALUATION_SEED, epoch=0)
        return [self._batch(self.held_out, chosen[batch]) for batch in batches]

    def _batch(self, windows, indices):
        batch = collate([windows.ids(i) for i in indices], self.pad_id)
        labels = np.where(batch["attention_mask"] == 1, batch["input_ids"], IGNORED)
        labels[np.arange(labels.shape[1]) < windows.shared[indices][:, None]] = IGNORED
        return {**batch, "labels": labels}


class Windows:
    """Windows of the stream of some documents.

    starts, stops (M,): places in the stream; lengths (M,); shared (M,): how many tokens of a window
    have their label in the window before.
    """

    def __init__(self, corpus: Corpus, documents: Sequence[int], end: int, stream: Stream):
        T, packed, context = stream
        self.corpus, self.end = corpus, end
        self.documents = np.asarray(documents, np.int64)
        lengths = corpus.lengths[self.documents]
        self.ends = 1 + np.cumsum(lengths)  # after a document's ⟨end⟩; the first is at place 0
        firsts = self.ends - lengths - 1  # the ⟨end⟩ before a document
        if packed and len(lengths):
            firsts, ends = np.zeros(1, np.int64), self.ends[-1:]
        else:
            ends = self.ends
        more = np.maximum(0, -(-(ends - firsts - T) // (T - context)))  # windows after the first
        owner = np.repeat(np.arange(len(ends)), 1 + more)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(1 + more) - 1 - more, 1 + more)
        self.starts = firsts[owner] + number * (T - context)
        self.stops = np.minimum(self.starts + T, ends[owner])
        self.lengths = self.stops - self.starts
        self.shared = np.where(number > 0, context, 0)

    def ids(self, i: int) -> np.ndarray:
        """Window i: ids (T,) int64."""
        start, stop = self.starts[i], self.stops[i]
        parts = [np.array([self.end])] if start == 0 else []
        place = max(start, 1)
        document = np.searchsorted(self.ends, place, side="right")
        while place < stop:
            until = min(stop, self.ends[document])
            last = self.corpus.offsets[self.documents[document] + 1] - self.ends[document]
            parts.append(self.corpus.ids[place + last : until + last])
            place, document = until, document + 1
        return np.concatenate(parts).astype(np.int64)
