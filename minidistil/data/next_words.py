"""Text to learn next words from: windows over a stream of documents.

    stream    ⟨end⟩ document ⟨end⟩ document ⟨end⟩ …     ⟨end⟩: [SEP], in GPT-2 <|endoftext|>
    packed    windows of T tokens across the documents: a batch without padding
    alone     windows within ⟨end⟩ document ⟨end⟩, as the original distiller prepares its text

The labels are the tokens themselves, and the model asks each row for the label behind it. Two
neighbouring windows share c tokens, which have labels in the first of them alone: every word of
the text is predicted once, from c words before it or more. Training has c = 1.
Source of the windows: transformers' run_clm.py (packed, c = 0, the remainder dropped) and its
documentation of perplexity, whose stride is T − c.
"""

import numpy as np

from minidistil.data.batches import EVALUATION_SEED, collate, plan, sample
from minidistil.data.masking import IGNORED


class NextWords:
    """A corpus of whole documents (`Corpus.build(max_length=None)`) to train a decoder on.

    indices and held_out: its documents to train on and to evaluate on. max_length: T; tokens: a
    batch's. packed: see above. context: c in evaluation; evaluation_tokens: how many tokens to
    evaluate on, None takes all that are held out. Raises ValueError for a c that T cannot hold.
    """

    labelled = True  # the text itself is what is to be said

    def __init__(
        self, corpus, indices, tokenizer, *, max_length, tokens, held_out=(), seed=0, packed=True,
        context=1, evaluation_tokens=65_536,
    ):  # fmt: skip
        if not 1 <= context < max_length:
            raise ValueError(
                f"windows of {max_length} tokens can share 1 to {max_length - 1}, not {context}"
            )
        if tokenizer.vocab_size != corpus.vocab_size:
            raise ValueError(
                f"the corpus was made with {corpus.vocab_size} words, the tokenizer has "
                f"{tokenizer.vocab_size}; build the corpus with this tokenizer"
            )
        end, self.pad_id = tokenizer.sep_id, tokenizer.pad_id
        self.tokens, self.seed, self.evaluation_tokens = tokens, seed, evaluation_tokens
        self.training = Windows(corpus, indices, end, max_length, 1, packed)
        self.held_out = Windows(corpus, held_out, end, max_length, context, packed)

    def batches(self, epoch):
        """One epoch: a list of arrays of the training windows' numbers."""
        return plan(self.training.lengths, tokens=self.tokens, seed=self.seed, epoch=epoch)

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these windows: input_ids, attention_mask, labels; the same at every step."""
        return self._batch(self.training, indices)

    def evaluation_batches(self):
        """The held-out batches: a list that is the same at every call."""
        lengths = self.held_out.lengths
        if not len(lengths):
            return []
        chosen = sample(lengths, self.evaluation_tokens)
        batches = plan(lengths[chosen], tokens=self.tokens, seed=EVALUATION_SEED, epoch=0)
        return [self._batch(self.held_out, chosen[batch]) for batch in batches]

    def _batch(self, windows, indices):
        batch = collate([windows.ids(i) for i in indices], self.pad_id)
        labels = np.where(batch["attention_mask"] == 1, batch["input_ids"], IGNORED)
        labels[np.arange(labels.shape[1]) < windows.seen[indices][:, None]] = IGNORED
        return {**batch, "labels": labels}


class Windows:
    """starts, stops (M,): places in the stream of these documents; lengths (M,); seen (M,): how
    many tokens of a window have their label in the one before."""

    def __init__(self, corpus, documents, end, T, context, packed):
        self.corpus, self.end = corpus, end
        self.documents = np.asarray(documents, np.int64)
        lengths = corpus.lengths[self.documents]
        self.ends = 1 + np.cumsum(lengths)  # behind a document's ⟨end⟩; the first is at place 0
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
        self.seen = np.where(number > 0, context, 0)

    def ids(self, i):
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
