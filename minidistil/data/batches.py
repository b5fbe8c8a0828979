"""Batches of about the same number of real tokens, and masked text as training data.

The models compute no padding, so the size of a batch is its number of real tokens. Sequences of
similar length share a batch, so that its (B,T) arrays hold little padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minidistil.data.corpus import Corpus
from minidistil.data.masking import BERT, IGNORED, KEY_RANGE, Masking, Vocabulary, mask_tokens
from minidistil.data.tokenizer import Tokenizer

WIDTH = 8  # sequences whose lengths differ by less count as equally long
SITE = 0x504C414E  # "PLAN": separates these draws from others of the same seed
EVALUATION_SEED = 0  # the same for all runs, so that they are measured on the same masks


@dataclass(frozen=True)
class Batching:
    """How sequences are grouped into batches.

    tokens: real tokens a batch; seed: of the order; max_sequences: the most sequences a batch.
    """

    tokens: int
    seed: int = 0
    max_sequences: int | None = None


def plan(
    lengths: np.ndarray | Sequence[int], *, tokens: int, seed: int, epoch: int,
    max_sequences: int | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """lengths (M,)  ->  list of int64 arrays of indices: the batches of one epoch, in order.

    Every index is in exactly one batch. A batch holds at most `tokens` real tokens and
    max_sequences sequences, but at least one sequence, however long. The same (lengths, seed,
    epoch) give the same plan, so a resumed run reads the same batches.
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


def collate(
    sequences: Sequence[np.ndarray], pad_id: int, token_types: bool = False
) -> dict[str, np.ndarray]:
    """B sequences of ids  ->  input_ids and attention_mask, int64 (B,T), padded on the right.

    token_types: adds token_type_ids of zeros, for a model that reads them.
    """
    lengths = np.array([len(ids) for ids in sequences])
    shape = (len(sequences), lengths.max())
    real = np.arange(shape[1]) < lengths[:, None]
    ids = np.full(shape, pad_id, np.int64)
    ids[real] = np.concatenate(sequences)
    batch = {"input_ids": ids, "attention_mask": real.astype(np.int64)}
    if token_types:
        batch["token_type_ids"] = np.zeros(shape, np.int64)
    return batch


def joined(batches: Sequence[Mapping[str, np.ndarray]], pad_id: int) -> dict[str, np.ndarray]:
    """Batches of one sequence each, without padding  ->  one batch, padded on the right."""
    fill = {"input_ids": pad_id, "labels": IGNORED}
    found = {}
    for name in batches[0]:
        rows = [batch[name][0] for batch in batches]
        found[name] = np.full((len(rows), max(map(len, rows))), fill.get(name, 0), np.int64)
        for row, x in zip(found[name], rows, strict=True):
            row[: len(x)] = x
    return found


class MaskedText:
    """Training data of a masked language model: the sequences of a corpus, masked at each step.

    indices, held_out: the sequences to train on and to evaluate on. tokenizer (or any object with
    its ids) gives the vocabulary.
    masking: of training batches; evaluation always masks uniformly and with one seed, so that
    numbers of different runs can be compared.
    evaluation_tokens: how many tokens to evaluate on; None takes all that are held out.
    kept_masks: static masking, as in BERT's original data: the mask of a sequence depends on the
    seed and the sequence alone. Otherwise it changes at each step.
    """

    labelled = True  # the labels are the text itself

    def __init__(
        self, corpus: Corpus, indices: Sequence[int], tokenizer: Tokenizer, batching: Batching, *,
        held_out: Sequence[int] = (), masking: Masking = BERT,
        evaluation_tokens: int | None = 65_536, kept_masks: bool = False,
    ):  # fmt: skip
        self.corpus, self.batching, self.masking = corpus, batching, masking
        self.indices, self.held_out = (np.asarray(i, np.int64) for i in (indices, held_out))
        self.vocabulary = Vocabulary.of(tokenizer)
        self.pad_id, self.token_types = tokenizer.pad_id, tokenizer.token_types
        self.evaluation_tokens, self.kept_masks = evaluation_tokens, kept_masks
        if self.vocabulary.vocab_size != corpus.vocab_size:
            raise ValueError(
                f"the corpus was made with {corpus.vocab_size} words, the tokenizer has "
                f"{self.vocabulary.vocab_size}; build the corpus with this tokenizer"
            )

    @property
    def seed(self) -> int:
        """The seed of order and masks."""
        return self.batching.seed

    def batches(self, epoch: int) -> list[np.ndarray]:
        """One epoch: a list of arrays of sequence numbers of the corpus."""
        lengths = self.corpus.lengths[self.indices]
        return [self.indices[i] for i in plan(lengths, epoch=epoch, **vars(self.batching))]

    def collate(
        self, indices: Sequence[int], *, step: int, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these sequences as step masks it: input_ids, attention_mask, labels."""
        if self.kept_masks:
            alone = [self._masked([i], self.seed, 0, int(i), self.masking) for i in indices]
            return joined(alone, self.pad_id)
        return self._masked(indices, self.seed, step, first_sequence, self.masking)

    def evaluation_batches(self) -> list[dict[str, np.ndarray]]:
        """The held-out batches with their labels, the same at every call."""
        if not len(self.held_out):
            return []
        lengths = self.corpus.lengths[self.held_out]
        chosen = sample(lengths, self.evaluation_tokens)
        batches = plan(lengths[chosen], tokens=self.batching.tokens, seed=EVALUATION_SEED, epoch=0)
        masking = Masking(probability=self.masking.probability)
        return [
            self._masked(self.held_out[chosen[batch]], EVALUATION_SEED, step, 0, masking)
            for step, batch in enumerate(batches)
        ]

    def _masked(self, indices, seed, step, first_sequence, masking):
        return mask_tokens(
            self._read(indices, seed, step, first_sequence), vocabulary=self.vocabulary, seed=seed,
            step=step, first_sequence=first_sequence, masking=masking, counts=self.corpus.counts,
        )  # fmt: skip

    def _read(self, indices, seed, step, first_sequence):
        """The batch before masking; a subclass may draw more than masks from (seed, step)."""
        return collate([self.corpus[i] for i in indices], self.pad_id, self.token_types)


def sample(lengths: np.ndarray, tokens: int | None) -> np.ndarray:
    """Indices of random sequences with at most `tokens` in all: sorted, at least one index."""
    order = _generator(EVALUATION_SEED, 0).permutation(len(lengths))
    if tokens is not None:
        order = order[: max(1, int(np.searchsorted(np.cumsum(lengths[order]), tokens, "right")))]
    return np.sort(order)


def _generator(seed, epoch):
    key = np.array([seed % KEY_RANGE, epoch % KEY_RANGE], np.uint64)
    counter = np.array([0, SITE, 0, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
