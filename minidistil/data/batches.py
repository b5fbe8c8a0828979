"""Batches of about the same number of real tokens, and the data that a training run reads.

Padding costs nothing inside the models, so a batch is measured in real tokens; sequences of similar
length go together so that the (B,T) arrays at the door stay dense.
"""

import numpy as np

from minidistil.data.masking import IGNORED, WORDS, Vocabulary, mask_tokens

WIDTH = 8  # sequences whose lengths differ by less count as equally long
SITE = 0x504C414E  # "PLAN": keeps these draws apart from others of the same seed
EVALUATION_SEED = 0  # one for all runs, so that they are measured on the same masks


def plan(lengths, *, tokens, seed, epoch, max_sequences=None):
    """lengths (M,)  ->  list of int64 arrays of indices: one epoch's batches in their order.

    Every index stands in exactly one batch. A batch holds at most `tokens` real tokens and
    max_sequences sequences, but at least one sequence, however long. The same (lengths, seed,
    epoch) give the same plan, so a resumed run sees the batches that it would have seen.
    """
    lengths = np.asarray(lengths, np.int64)
    if tokens < 1 or (max_sequences is not None and max_sequences < 1):
        raise ValueError(
            f"a batch needs room for 1 token and 1 sequence, not tokens={tokens}, "
            f"max_sequences={max_sequences}; choose larger ones"
        )
    if lengths.size == 0 or lengths.min() < 1:
        raise ValueError(
            f"a plan needs sequences of at least 1 token, not {lengths.size} of at least "
            f"{lengths.min(initial=0)}; remove the empty ones"
        )
    random = _generator(seed, epoch)
    order = random.permutation(len(lengths))
    order = order[np.argsort(lengths[order] // WIDTH, kind="stable")]
    ends = np.cumsum(lengths[order])
    batches, start = [], 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + tokens, side="right"))
        stop = min(stop, start + max_sequences) if max_sequences else stop
        stop = max(stop, start + 1)
        batches.append(order[start:stop])
        start = stop
    return [batches[i] for i in random.permutation(len(batches))]


def collate(sequences, pad_id, token_types=False):
    """B sequences of ids  ->  dict of int64 (B,T): input_ids and attention_mask, padded on the
    right to the longest; token_types adds token_type_ids of zeros, for a model that reads them."""
    lengths = np.array([len(ids) for ids in sequences])
    shape = (len(sequences), lengths.max())
    real = np.arange(shape[1]) < lengths[:, None]
    ids = np.full(shape, pad_id, np.int64)
    ids[real] = np.concatenate(sequences)
    batch = {"input_ids": ids, "attention_mask": real.astype(np.int64)}
    if token_types:
        batch["token_type_ids"] = np.zeros(shape, np.int64)
    return batch


def together(batches, pad_id):
    """Batches of one sequence each, without padding  ->  one batch, padded on the right."""
    fill = {"input_ids": pad_id, "labels": IGNORED}
    joined = {}
    for name in batches[0]:
        rows = [batch[name][0] for batch in batches]
        joined[name] = np.full((len(rows), max(map(len, rows))), fill.get(name, 0), np.int64)
        for row, x in zip(joined[name], rows, strict=True):
            row[: len(x)] = x
    return joined


class MaskedText:
    """A corpus to train a masked language model on.

    indices and held_out: which of its sequences to train on and to evaluate on. tokenizer (or
    anything with its ids) gives the vocabulary. tokens: real tokens a batch.
    strategy: "uniform" or "smoothed" masking in training; evaluation always masks uniformly and
    with one seed, so that numbers of different runs can be compared.
    evaluation_tokens: how many tokens to evaluate on; None takes all that are held out.
    kept_masks: a sequence is masked on its own and the same in every step, as BERT's first training
    data was; otherwise anew each time.
    """

    labelled = True  # the text itself is what is to be said

    def __init__(
        self, corpus, indices, tokenizer, *, tokens, held_out=(), seed=0, strategy="uniform",
        probability=0.15, max_sequences=None, evaluation_tokens=65_536, kept_masks=False,
    ):  # fmt: skip
        self.corpus, self.tokens, self.max_sequences = corpus, tokens, max_sequences
        self.indices, self.held_out = (np.asarray(i, np.int64) for i in (indices, held_out))
        self.vocabulary = Vocabulary.of(tokenizer)
        self.pad_id, self.token_types = tokenizer.pad_id, tokenizer.token_types
        self.seed, self.strategy, self.probability = seed, strategy, probability
        self.evaluation_tokens, self.kept_masks = evaluation_tokens, kept_masks
        if self.vocabulary.vocab_size != corpus.vocab_size:
            raise ValueError(
                f"the corpus was made with {corpus.vocab_size} words, the tokenizer has "
                f"{self.vocabulary.vocab_size}; build the corpus with this tokenizer"
            )

    def batches(self, epoch):
        """One epoch: a list of arrays of sequence numbers of the corpus."""
        lengths = self.corpus.lengths[self.indices]
        batches = plan(
            lengths, tokens=self.tokens, seed=self.seed, epoch=epoch,
            max_sequences=self.max_sequences,
        )  # fmt: skip
        return [self.indices[batch] for batch in batches]

    def collate(self, indices, *, step, first_sequence=0):
        """The batch of these sequences as step masks it: input_ids, attention_mask, labels."""
        if self.kept_masks:
            alone = [self._masked([i], self.seed, 0, int(i), self.strategy) for i in indices]
            return together(alone, self.pad_id)
        return self._masked(indices, self.seed, step, first_sequence, self.strategy)

    def evaluation_batches(self):
        """The held-out batches with their labels: a list that is the same at every call."""
        if not len(self.held_out):
            return []
        lengths = self.corpus.lengths[self.held_out]
        chosen = sample(lengths, self.evaluation_tokens)
        batches = plan(lengths[chosen], tokens=self.tokens, seed=EVALUATION_SEED, epoch=0)
        return [
            self._masked(self.held_out[chosen[batch]], EVALUATION_SEED, step, 0, "uniform")
            for step, batch in enumerate(batches)
        ]

    def _masked(self, indices, seed, step, first_sequence, strategy):
        return mask_tokens(
            self._read(indices, seed, step, first_sequence),
            vocabulary=self.vocabulary,
            seed=seed,
            step=step,
            first_sequence=first_sequence,
            strategy=strategy,
            counts=self.corpus.counts,
            probability=self.probability,
        )

    def _read(self, indices, seed, step, first_sequence):
        """The batch before it is masked; a text has no other draws than its masks."""
        return collate([self.corpus[i] for i in indices], self.pad_id, self.token_types)


def sample(lengths, tokens):
    """Indices of sequences drawn at random until `tokens` are together: sorted, at least one."""
    order = _generator(EVALUATION_SEED, 0).permutation(len(lengths))
    if tokens is not None:
        order = order[: max(1, int(np.searchsorted(np.cumsum(lengths[order]), tokens, "right")))]
    return np.sort(order)


def _generator(seed, epoch):
    key = np.array([seed % WORDS, epoch % WORDS], np.uint64)
    counter = np.array([0, SITE, 0, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
