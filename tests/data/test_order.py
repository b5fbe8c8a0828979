"""Two halves of a text and their order: nothing is lost, draws repeat, and an ALBERT learns it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidistil as md
from minidistil.data import OrderedText, collate
from minidistil.data.batches import Batching
from minidistil.data.sentence_order import in_two_halves
from minidistil.train import TrainConfig, train

PAD, CLS, SEP, MASK = 0, 2, 3, 4


def halves(words, seed=0, step=0, first_sequence=0):
    texts = [np.array([CLS, *w, SEP]) for w in words]
    return in_two_halves(collate(texts, PAD), PAD, seed, step, first_sequence)


@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=6),
    seed=st.integers(0, 2**64),
    step=st.integers(0, 10**6),
)
def test_put_together_again_they_are_the_text(lengths, seed, step):
    words = [np.arange(5, 5 + n) for n in lengths]
    batch = halves(words, seed, step)
    for b, text in enumerate(words):
        ids, types, real = (batch[n][b] for n in ("input_ids", "token_type_ids", "attention_mask"))
        assert real.sum() == len(text) + 3 and (ids[real == 0] == PAD).all()
        assert not types[real == 0].any()
        first, second = ids[(types == 0) & (real == 1)], ids[types == 1]
        assert first[0] == CLS and first[-1] == second[-1] == SEP
        parts = [first[1:-1], second[:-1]]
        assert min(map(len, parts)) > 0
        swapped = batch["sentence_order_label"][b]
        np.testing.assert_array_equal(np.concatenate(parts[::-1] if swapped else parts), text)


def test_draws_belong_to_the_sequence():
    words = [np.arange(5, 14)] * 400
    whole = halves(words, seed=3, step=7)
    assert 0.4 < whole["sentence_order_label"].mean() < 0.6
    cuts = (whole["token_type_ids"] == 0).sum(axis=1)
    assert set(cuts) == set(range(3, 11))  # every cut between two words, [CLS] and [SEP] counted
    part = halves(words[100:], seed=3, step=7, first_sequence=100)
    for name, x in part.items():
        np.testing.assert_array_equal(x, whole[name][100:])
    other = halves(words, seed=3, step=8)["sentence_order_label"]
    assert (other != whole["sentence_order_label"]).any()


def test_a_single_word_has_no_order():
    with pytest.raises(ValueError, match="a text of 1 words has no two halves"):
        halves([[5, 6], [7]])


class Rising:
    """A corpus and its tokenizer in one: the same words each time, so that their order shows."""

    vocab_size, pad_id, mask_id, special_ids, token_types = 25, PAD, MASK, (0, 1, 2, 3, 4), True

    def __init__(self):
        lengths = np.random.default_rng(0).integers(6, 11, 60)
        self.sequences = [np.array([CLS, *range(5, 5 + n), SEP]) for n in lengths]
        self.lengths, self.counts = lengths + 2, np.ones(25)

    def __getitem__(self, i):
        return self.sequences[i]


def test_an_albert_learns_which_half_came_first():
    corpus = Rising()
    data = OrderedText(corpus, np.arange(40), corpus, Batching(400))
    config = md.AlbertConfig(
        vocab_size=25, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=13, initializer_range=0.2,
    )  # fmt: skip
    model = md.from_config(config, task="pretraining", seed=0)
    batch = data.collate(np.arange(40, 60), step=10**6)  # texts and draws that no step has
    labels = batch.pop("sentence_order_label")

    def right():
        return (model.forward(**batch).sop_logits.argmax(axis=1) == labels).mean()

    before = right()
    train(model, data, TrainConfig(steps=120, lr=5e-3, seed=0))
    assert right() >= 0.9 > before


def test_masks_are_drawn_beside_the_order():
    corpus = Rising()
    data = OrderedText(corpus, np.arange(60), corpus, Batching(200))
    batch = data.collate(np.arange(5), step=2)
    hidden = batch["labels"] != -100
    assert hidden.any() and not np.isin(batch["labels"][hidden], corpus.special_ids).any()
    with pytest.raises(ValueError, match="leave kept_masks out"):
        OrderedText(corpus, np.arange(60), corpus, Batching(200), kept_masks=True)
