import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.data import Vocabulary, collate, mask_tokens
from minidistil.data.masking import IGNORED, Masking

V = 50
WORDS = Vocabulary(V, mask_id=4, special_ids=(0, 1, 2, 3, 4))
COUNTS = np.array([0, 9, 9, 9, 0, *np.geomspace(1e6, 0.01, V - 5)]).astype(np.int64)


def batch_of(lengths, rng):
    return collate([[2, *rng.integers(5, V, n), 3] for n in lengths], pad_id=0)


@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any),
    seed=st.integers(-5, 2**64),
    step=st.integers(0, 10**9),
    strategy=st.sampled_from(["uniform", "smoothed"]),
    probability=st.floats(0.01, 1),
    unknown=st.floats(0, 0.5),
)
def test_laws_of_every_masked_batch(lengths, seed, step, strategy, probability, unknown):
    rng = np.random.default_rng(0)
    batch = batch_of(lengths, rng)
    ids = batch["input_ids"]
    ids[(ids > 5) & (rng.random(ids.shape) < unknown)] = 1
    before = {name: array.copy() for name, array in batch.items()}
    drawable = batch["input_ids"] > 4
    if not drawable.any():
        return
    masking = Masking(strategy=strategy, probability=probability)
    options = {"seed": seed, "step": step, "masking": masking}
    masked = mask_tokens(batch, vocabulary=WORDS, counts=COUNTS, **options)
    labels, ids = masked["labels"], masked["input_ids"]
    chosen = labels != IGNORED
    assert labels.dtype == ids.dtype == np.int64
    assert chosen.any()
    assert not (chosen & ~drawable).any()  # never a special token, never padding
    np.testing.assert_array_equal(labels[chosen], before["input_ids"][chosen])
    np.testing.assert_array_equal(ids[~chosen], before["input_ids"][~chosen])
    assert ids.min() >= 0 and ids.max() < V
    for name, array in before.items():
        np.testing.assert_array_equal(batch[name], array)  # the argument is left alone
    if strategy == "smoothed":
        n = int(np.ceil(probability * batch["attention_mask"].sum()))
        assert chosen.sum() == min(n, drawable.sum())
    again = mask_tokens(batch, vocabulary=WORDS, counts=COUNTS, **options)
    np.testing.assert_array_equal(again["input_ids"], ids)


def test_uniform_shares():
    batch = batch_of([398] * 250, np.random.default_rng(1))
    masked = mask_tokens(batch, vocabulary=WORDS, seed=0, step=0)
    ids, labels = masked["input_ids"], masked["labels"]
    chosen = labels != IGNORED
    n = chosen.sum()

    def share(found, of, p):
        assert abs(found / of - p) < 5 * np.sqrt(p * (1 - p) / of), (found / of, p)

    share(n, 398 * 250, 0.15)
    # a random word is [MASK] or the word itself once in V times each
    share((chosen & (ids == 4)).sum(), n, 0.8 + 0.1 / V)
    share((chosen & (ids == labels)).sum(), n, 0.1 + 0.1 / V)
    replaced = ids[chosen & (ids != labels) & (ids != 4)]
    counts = np.bincount(replaced, minlength=V)
    assert counts[0] and counts[1]  # the whole vocabulary, special tokens included
    expected = len(replaced) / (V - 1)
    assert np.abs(counts[np.arange(V) != 4] - expected).max() < 5 * np.sqrt(expected)


def test_draws_change_with_seed_and_step_and_not_with_padding():
    batch = batch_of([40] * 8, np.random.default_rng(2))
    first = mask_tokens(batch, vocabulary=WORDS, seed=0, step=0)["labels"]
    for seed, step in ((1, 0), (0, 1)):
        assert (mask_tokens(batch, vocabulary=WORDS, seed=seed, step=step)["labels"] != first).any()
    wide = {name: np.pad(array, ((0, 0), (0, 9))) for name, array in batch.items()}
    again = mask_tokens(wide, vocabulary=WORDS, seed=0, step=0)["labels"]
    np.testing.assert_array_equal(again[:, :-9], first)
    assert (first[0] != first[1]).any()


def test_two_halves_are_masked_like_the_whole():
    batch = batch_of([40] * 8, np.random.default_rng(3))
    whole = mask_tokens(batch, vocabulary=WORDS, seed=0, step=5)
    for start in (0, 4):
        half = {name: array[start : start + 4] for name, array in batch.items()}
        half = mask_tokens(half, vocabulary=WORDS, seed=0, step=5, first_sequence=start)
        for name, array in half.items():
            np.testing.assert_array_equal(array, whole[name][start : start + 4])


def test_a_batch_always_has_something_to_learn():
    batch = batch_of([2], np.random.default_rng(4))
    for step in range(50):
        masked = mask_tokens(
            batch, vocabulary=WORDS, seed=0, step=step, masking=Masking(probability=1e-9)
        )
        assert (masked["labels"] != IGNORED).sum() == 1


def test_smoothed_draws_follow_successive_sampling():
    """Three tokens of weights 1, 2, 5, two drawn: the chances of each pair by the definition."""
    counts = np.ones(V, np.int64)
    weights = np.array([1, 2, 5])
    counts[[10, 11, 12]] = np.round(1e9 * weights ** (-1 / 0.7)).astype(np.int64)
    batch = collate([[2, 10, 11, 12, 3]], pad_id=0)
    tries, found = 20_000, np.zeros(3)
    for step in range(tries):
        masked = mask_tokens(
            batch,
            vocabulary=WORDS,
            seed=0,
            step=step,
            counts=counts,
            masking=Masking(strategy="smoothed", probability=0.4),
        )
        found += masked["labels"][0, 1:4] != IGNORED
    p = weights / weights.sum()
    both = p[:, None] * p / (1 - p[:, None])  # i first, then j: the diagonal cannot happen
    second = both.sum(0) - both.diagonal()
    np.testing.assert_allclose(found / tries, p + second, atol=5 * 0.5 / np.sqrt(tries))


def test_smoothed_counts_below_one_count_as_one():
    counts = np.zeros(V, np.int64)
    batch = collate([[2, 10, 11, 12, 3]], pad_id=0)
    masked = mask_tokens(
        batch, vocabulary=WORDS, seed=0, step=0, counts=counts, masking=Masking(strategy="smoothed")
    )
    assert (masked["labels"] != IGNORED).sum() == 1


def test_bad_arguments():
    batch = batch_of([5], np.random.default_rng(5))
    with pytest.raises(ValueError, match="special tokens only"):
        mask_tokens(collate([[2, 3]], 0), vocabulary=WORDS, seed=0, step=0)
    with pytest.raises(ValueError, match="strategy must be one of"):
        mask_tokens(batch, vocabulary=WORDS, seed=0, step=0, masking=Masking(strategy="whole-word"))
    with pytest.raises(ValueError, match="counts of all 50 words, not none"):
        mask_tokens(batch, vocabulary=WORDS, seed=0, step=0, masking=Masking(strategy="smoothed"))
    with pytest.raises(ValueError, match=r"must make 1"):
        mask_tokens(batch, vocabulary=WORDS, seed=0, step=0, masking=Masking(mask=0.9))
