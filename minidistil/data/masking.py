"""Masking for masked language modelling (MLM): replace some tokens, keep their ids as labels.

Of the chosen tokens 80 % become [MASK], 10 % a random id of the whole vocabulary, and 10 % stay as
they are, so that no visible token is known to be correct. Two strategies choose them:

    uniform     BERT: every real token that is not special, independently, with probability 0.15
    smoothed    DistilBERT: ⌈0.15·N⌉ of the batch's N real tokens, drawn without replacement with
                weights max(count, 1)^−0.7, special tokens 0, so that rare tokens come more often

The draws are a pure function of (seed, step) and the sequence's number in the global batch; there
is no generator state. A batch is masked differently at each step, and equally after a resume.
Source: Devlin et al. 2018, §3.1 and transformers' DataCollatorForLanguageModeling; Sanh et al. 2019
and its Distiller.prepare_batch_mlm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

IGNORED = -100  # the label of a position without a target
STRATEGIES = ("uniform", "smoothed")
KEY_RANGE = 2**64  # of a word of a Philox key: seeds and steps are taken modulo this
SITE = 0x4D41534B  # "MASK": separates these draws from others of the same seed and step


@dataclass(frozen=True)
class Vocabulary:
    """The properties of a tokenizer that masking uses."""

    vocab_size: int
    mask_id: int
    special_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer) -> "Vocabulary":
        """The vocabulary of a Tokenizer, or of any object with the same attributes."""
        return cls(tokenizer.vocab_size, tokenizer.mask_id, tuple(tokenizer.special_ids))


@dataclass(frozen=True)
class Masking:
    """Which tokens are chosen, and the shares of these that are masked, kept or replaced.

    Raises ValueError for an unknown strategy, and for shares whose sum is not 1.
    """

    strategy: str = "uniform"
    probability: float = 0.15
    smoothing: float = 0.7  # the exponent of "smoothed"
    mask: float = 0.8
    keep: float = 0.1
    random: float = 0.1

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise ValueError(
                f"the masking strategy must be one of {STRATEGIES}, not {self.strategy!r}"
            )
        if abs(self.mask + self.keep + self.random - 1) > 1e-6:
            raise ValueError(
                f"mask {self.mask} + keep {self.keep} + random {self.random} must make 1"
            )


BERT = Masking()


def mask_tokens(
    batch: Mapping[str, np.ndarray], *, vocabulary: Vocabulary, seed: int, step: int,
    first_sequence: int = 0, masking: Masking = BERT, counts: np.ndarray | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """batch with input_ids and attention_mask (B,T)  ->  a copy, ids masked and labels added.

    labels (B,T) int64: the original id of a chosen token, −100 elsewhere. first_sequence: the
    number of the batch's first sequence in the global batch; with "uniform", two halves of a batch
    are masked like the whole. At least one token of a batch is chosen.
    counts (V,), for "smoothed": how often each id occurs in the corpus. Raises ValueError for a
    batch of special tokens only, and for missing counts.
    """
    ids, real = batch["input_ids"], batch["attention_mask"].astype(bool)
    drawable = real & ~np.isin(ids, vocabulary.special_ids)  # (B,T)
    if not drawable.any():
        raise ValueError(
            "a batch of special tokens only has nothing to mask; give texts with words in them"
        )
    u = uniform((*ids.shape, 3), seed, step, first_sequence, SITE)
    if masking.strategy == "uniform":
        chosen = drawable & (u[..., 0] < masking.probability)
        if not chosen.any():
            chosen.flat[np.argmin(np.where(drawable, u[..., 0], 1))] = True
    else:
        weights = np.where(drawable, _weights(ids, counts, masking.smoothing, vocabulary), 0)
        chosen = _draw(weights, u[..., 0], int(np.ceil(masking.probability * real.sum())))
    to_mask = chosen & (u[..., 1] < masking.mask)
    to_random = chosen & (u[..., 1] >= masking.mask + masking.keep)
    random_ids = (u[..., 2] * vocabulary.vocab_size).astype(np.int64)
    masked = np.where(to_mask, vocabulary.mask_id, np.where(to_random, random_ids, ids))
    return {**batch, "input_ids": masked, "labels": np.where(chosen, ids, IGNORED)}


def _weights(ids, counts, smoothing, vocabulary):
    """max(count, 1)^−smoothing of every token: (B,T)."""
    if counts is None or len(counts) != vocabulary.vocab_size:
        raise ValueError(
            f"smoothed masking needs the counts of all {vocabulary.vocab_size} words, not "
            f"{'none' if counts is None else len(counts)}; take the corpus's counts"
        )
    return np.maximum(counts[ids], 1).astype(np.float64) ** -smoothing


def _draw(weights, u, n):
    """n cells without replacement, each draw in proportion to the weights that are left.

    Cell i arrives at an exponential time of rate w[i]; the first n arrivals have exactly that
    distribution (Efraimidis and Spirakis, 2006). With fewer than n positive weights, all of these
    cells are drawn.
    """
    with np.errstate(divide="ignore"):
        arrival = np.where(weights > 0, -np.log1p(-u) / weights, np.inf).ravel()
    n = min(n, int((weights > 0).sum()))
    chosen = np.zeros(weights.size, bool)
    chosen[np.argsort(arrival, kind="stable")[:n]] = True
    return chosen.reshape(weights.shape)


def uniform(
    shape: tuple[int, ...], seed: int, step: int, first_sequence: int, site: int
) -> np.ndarray:
    """shape (B,…)  ->  as many numbers in [0,1). Row b depends on (seed, step, first_sequence + b)
    and site alone; its first columns do not depend on how wide the batch is padded."""
    u = np.empty(shape)
    key = np.array([seed % KEY_RANGE, step % KEY_RANGE], np.uint64)
    for b in range(len(u)):
        counter = np.array([0, site, first_sequence + b, 0], np.uint64)
        u[b] = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape[1:])
    return u
