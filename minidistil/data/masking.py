"""Masked-language-model batches: hide some tokens, ask for them back.

Of the tokens chosen, 80 % become [MASK], 10 % a word drawn from the whole vocabulary, and 10 %
stay: the model cannot know which of the tokens it sees are to be trusted. Which are chosen:

    uniform     BERT: every real token that is not special, on its own, with probability 0.15
    smoothed    DistilBERT: ⌈0.15·N⌉ of the batch's N real tokens, drawn without replacement with
                weights max(count, 1)^−0.7, special tokens 0, so that rare words are seen more

The draws are a pure function of (seed, step) and the sequence's number in the global batch, never
of a generator that remembers: a batch is masked anew at each step, and the same again on resuming.
Source: Devlin et al. 2018, §3.1 and transformers' DataCollatorForLanguageModeling; Sanh et al. 2019
and its Distiller.prepare_batch_mlm.
"""

from dataclasses import dataclass

import numpy as np

IGNORED = -100  # the label of what is not asked for
STRATEGIES = ("uniform", "smoothed")
WORDS = 2**64  # of a Philox key: seeds and steps are taken modulo this
SITE = 0x4D41534B  # "MASK": keeps these draws apart from others of the same seed and step


@dataclass(frozen=True)
class Vocabulary:
    """What masking has to know of a tokenizer."""

    vocab_size: int
    mask_id: int
    special_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer):
        """A tokenizer's."""
        return cls(tokenizer.vocab_size, tokenizer.mask_id, tuple(tokenizer.special_ids))


def mask_tokens(
    batch,
    *,
    vocabulary,
    seed,
    step,
    first_sequence=0,
    strategy="uniform",
    counts=None,
    probability=0.15,
    smoothing=0.7,
    mask=0.8,
    keep=0.1,
    random=0.1,
):
    """batch with input_ids and attention_mask (B,T)  ->  a copy, ids masked and labels added.

    labels (B,T) int64: the id that was there, −100 where no answer is asked for. first_sequence
    is the number of the batch's first sequence in the global batch; with "uniform" a batch cut
    in two is masked like the whole. At least one token of a batch is chosen.
    counts (V,), for "smoothed": how often each id occurs in the corpus. Raises ValueError.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"the masking strategy must be one of {STRATEGIES}, not {strategy!r}")
    if abs(mask + keep + random - 1) > 1e-6:
        raise ValueError(f"mask {mask} + keep {keep} + random {random} must make 1")
    ids, real = batch["input_ids"], batch["attention_mask"].astype(bool)
    drawable = real & ~np.isin(ids, vocabulary.special_ids)  # (B,T)
    if not drawable.any():
        raise ValueError(
            "a batch of special tokens only has nothing to mask; give texts with words in them"
        )
    u = uniform((*ids.shape, 3), seed, step, first_sequence, SITE)
    if strategy == "uniform":
        chosen = drawable & (u[..., 0] < probability)
        if not chosen.any():
            chosen.flat[np.argmin(np.where(drawable, u[..., 0], 1))] = True
    else:
        weights = np.where(drawable, _weights(ids, counts, smoothing, vocabulary), 0)
        chosen = _draw(weights, u[..., 0], int(np.ceil(probability * real.sum())))
    to_mask = chosen & (u[..., 1] < mask)
    to_random = chosen & (u[..., 1] >= mask + keep)
    words = (u[..., 2] * vocabulary.vocab_size).astype(np.int64)
    masked = np.where(to_mask, vocabulary.mask_id, np.where(to_random, words, ids))
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
    """n cells without replacement, each next one in proportion to the weights that are left.

    A race: cell i arrives at an exponential time of rate w[i]; the first n to arrive have exactly
    that law (Efraimidis and Spirakis, 2006). Where fewer than n can run, all of them are drawn.
    """
    with np.errstate(divide="ignore"):
        arrival = np.where(weights > 0, -np.log1p(-u) / weights, np.inf).ravel()
    n = min(n, int((weights > 0).sum()))
    chosen = np.zeros(weights.size, bool)
    chosen[np.argsort(arrival, kind="stable")[:n]] = True
    return chosen.reshape(weights.shape)


def uniform(shape, seed, step, first_sequence, site):
    """shape (B,…)  ->  as many numbers in [0,1). Row b depends on (seed, step, first_sequence + b)
    and the site alone, and its first columns are the same however wide the batch is padded."""
    u = np.empty(shape)
    key = np.array([seed % WORDS, step % WORDS], np.uint64)
    for b in range(len(u)):
        counter = np.array([0, site, first_sequence + b, 0], np.uint64)
        u[b] = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape[1:])
    return u
