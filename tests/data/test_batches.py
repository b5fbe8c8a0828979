import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.data import Corpus, MaskedText, collate, held_out, plan, train_wordpiece
from minidistil.data.batches import WIDTH, Batching
from minidistil.data.masking import Masking

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=200)


@given(
    lengths=LENGTHS,
    tokens=st.integers(1, 2000),
    seed=st.integers(0, 2**64),
    epoch=st.integers(0, 1000),
    most=st.none() | st.integers(1, 20),
)
def test_laws_of_every_plan(lengths, tokens, seed, epoch, most):
    lengths = np.array(lengths)
    options = {"tokens": tokens, "seed": seed, "epoch": epoch, "max_sequences": most}
    batches = plan(lengths, **options)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].sum() <= tokens
        assert most is None or len(batch) <= most
    again = plan(lengths, **options)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_batches_are_full_alike_and_shuffled():
    lengths = np.random.default_rng(0).integers(12, 129, 3000)
    batches = plan(lengths, tokens=2048, seed=0, epoch=0)
    full = np.array([lengths[batch].sum() for batch in batches])
    assert (full > 2048 - 129).sum() >= len(batches) - 1
    assert np.median([np.ptp(lengths[batch]) for batch in batches]) <= WIDTH
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3
    other = plan(lengths, tokens=2048, seed=0, epoch=1)
    assert {frozenset(b.tolist()) for b in batches} != {frozenset(b.tolist()) for b in other}


def test_a_batch_may_be_exactly_full():
    assert [len(batch) for batch in plan([5] * 6, tokens=15, seed=0, epoch=0)] == [3, 3]


def test_bad_plans():
    with pytest.raises(ValueError, match="0 of at least 0"):
        plan([], tokens=10, seed=0, epoch=0)
    with pytest.raises(ValueError, match="at least 1 token"):
        plan([3, 0], tokens=10, seed=0, epoch=0)
    with pytest.raises(ValueError, match="tokens=0"):
        plan([3], tokens=0, seed=0, epoch=0)


def test_collate():
    batch = collate([[2, 7, 3], [2, 3]], pad_id=9, token_types=True)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
    assert set(collate([[2]], 0)) == {"input_ids", "attention_mask"}


TEXTS = [f"the film {a} was {b} and the actors {c} too, for {a} {b} {c} hours"
         for a in ("one", "two", "three") for b in ("good", "bad", "long")
         for c in ("smile", "cry", "sing", "run")]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 200)


@pytest.fixture(scope="module")
def corpus(tokenizer, tmp_path_factory):
    return Corpus.build(tmp_path_factory.mktemp("c") / "c", TEXTS, tokenizer, max_length=64)


@pytest.mark.parametrize("strategy", ["uniform", "smoothed"])
def test_masked_text(corpus, tokenizer, strategy):
    training, out = held_out(corpus, 0.25)
    data = MaskedText(
        corpus, training, tokenizer, Batching(100), held_out=out, masking=Masking(strategy=strategy)
    )
    batches = data.batches(0)
    assert sorted(i for batch in batches for i in batch) == training.tolist()
    first = data.collate(batches[0], step=0)
    restored = np.where(first["labels"] == -100, first["input_ids"], first["labels"])
    for row, mask, i in zip(restored, first["attention_mask"], batches[0], strict=True):
        np.testing.assert_array_equal(row[mask == 1], corpus[i])
    assert (data.collate(batches[0], step=1)["labels"] != first["labels"]).any()
    again = data.collate(batches[0], step=0)
    assert all(np.array_equal(again[name], first[name]) for name in first)


def test_evaluation_is_the_same_for_every_run(corpus, tokenizer):
    training, out = held_out(corpus, 0.5)
    ours = MaskedText(
        corpus, training, tokenizer, Batching(100, seed=1), held_out=out,
        masking=Masking(strategy="smoothed"),
    )  # fmt: skip
    theirs = MaskedText(corpus, training, tokenizer, Batching(100, seed=2), held_out=out)
    mine, yours = ours.evaluation_batches(), theirs.evaluation_batches()
    assert len(mine) == len(yours) > 1
    for a, b in zip(mine, yours, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert sum(len(batch["input_ids"]) for batch in mine) == len(out)
    few = MaskedText(corpus, training, tokenizer, Batching(100), held_out=out, evaluation_tokens=80)
    tokens = sum(batch["attention_mask"].sum() for batch in few.evaluation_batches())
    assert 0 < tokens <= 80
    assert MaskedText(corpus, training, tokenizer, Batching(100)).evaluation_batches() == []


def test_another_vocabulary_is_refused(corpus):
    other = train_wordpiece(TEXTS, 60)
    with pytest.raises(ValueError, match=r"corpus was made with \d+ words, the tokenizer has 60"):
        MaskedText(corpus, [0], other, Batching(100))


@pytest.mark.parametrize("strategy", ["uniform", "smoothed"])
def test_kept_masks_belong_to_the_sequence(corpus, tokenizer, strategy):
    """Whatever the step and whoever else is in the batch."""
    data = MaskedText(
        corpus,
        np.arange(len(corpus)),
        tokenizer,
        Batching(99, seed=3),
        kept_masks=True,
        masking=Masking(strategy=strategy),
    )
    together = data.collate(np.array([5, 0, 7]), step=4, first_sequence=9)
    alone = data.collate(np.array([7]), step=0)
    T = alone["input_ids"].shape[1]
    for name, x in alone.items():
        np.testing.assert_array_equal(together[name][2, :T], x[0])
    assert ((together["labels"] != -100).sum(axis=1) > 0).all()
    assert (together["labels"][together["attention_mask"] == 0] == -100).all()
    assert (together["input_ids"][together["attention_mask"] == 0] == tokenizer.pad_id).all()
