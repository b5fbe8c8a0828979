"""Where data differs from the code that we learnt from: masks, batches, augmentation, next words.

Another part of `test_known_differences.py`, which see.
"""

import argparse
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from distill_cases import pair
from model_cases import CASES, SMALL

import minidistil as md
from minidistil.cli import parser_of
from minidistil.data.batches import WIDTH, plan
from minidistil.data.masking import Masking, Vocabulary, mask_tokens
from minidistil.data.next_words import Stream, Windows
from minidistil.data.sentence_order import in_two_halves
from minidistil.tasks.augmentation import Augmenter

# ---------------------------------------------------------------- masking and batches


def test_the_number_of_masked_words_belongs_to_the_batch():
    """distiller.py masks ⌈0.15·all tokens⌉ words of the batch, wherever they fall: a text may get
    none. With --masking smoothed so do we. BERT's own way, our default, draws each token alone.
    Where rare words leave fewer to draw than that, its multinomial raises; ours takes them all."""
    ids = np.full((3, 10), 7)
    ids[:, 0], ids[:, -1] = 2, 3
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    words = Vocabulary(20, 4, (0, 1, 2, 3, 4))
    smoothed = Masking(strategy="smoothed")
    how = {"vocabulary": words, "seed": 0, "counts": np.ones(20)}
    masked = [
        mask_tokens(batch, step=s, masking=smoothed, **how)["labels"] != -100 for s in range(20)
    ]
    assert {m.sum() for m in masked} == {math.ceil(0.15 * 30)}
    assert any((m.sum(axis=1) == 0).any() for m in masked)
    smoothed = Masking("smoothed", probability=1.0)
    everything = mask_tokens(batch, step=0, masking=smoothed, **how)["labels"] != -100
    assert everything.sum() == 3 * 8  # and not 30: the special tokens cannot be drawn


def test_a_random_word_may_be_a_special_one():
    """distiller.py and BERT replace one masked word of ten by a draw from the whole vocabulary,
    [CLS] and [PAD] included; so do we, for the numbers' sake."""
    ids = np.full((2000, 12), 15)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    found = mask_tokens(batch, vocabulary=Vocabulary(16, 4, (0, 1, 2, 3, 4)), seed=0, step=0)
    assert {0, 1, 2, 3} <= set(np.unique(found["input_ids"]))


def test_asking_for_groups_of_one_size_switches_them_off():
    """train.py declares --group_by_size with action "store_false" and default True: whoever passes
    it gets batches of mixed lengths. Ours groups always, and there is no such option."""
    theirs = argparse.ArgumentParser()
    theirs.add_argument("--group_by_size", action="store_false")
    assert theirs.parse_args([]).group_by_size is True
    assert theirs.parse_args(["--group_by_size"]).group_by_size is False
    with pytest.raises(ValueError, match="group_by_size"):
        parser_of("distill").parse_args(["--group_by_size"])
    lengths = np.random.default_rng(0).integers(3, 128, 2000)
    spread = [np.ptp(lengths[batch]) for batch in plan(lengths, tokens=512, seed=0, epoch=0)]
    assert np.mean(spread) < WIDTH


def test_frozen_positions_that_are_not():
    """train.py --freeze_pos_embs, which its README passes, has branches for RoBERTa and GPT-2 only:
    a DistilBERT's positions go on learning. We have no such option, and say so."""
    student_type, frozen = "distilbert", 0
    if student_type in ("roberta", "gpt2"):
        frozen += 1
    assert frozen == 0
    with pytest.raises(ValueError, match="freeze_pos_embs"):
        parser_of("distill").parse_args(["--freeze_pos_embs"])
    teacher, student, batch = pair(size=SMALL)
    grads = md.distill_step(student, teacher, batch, md.DistillConfig()).grads
    assert grads["distilbert.embeddings.position_embeddings.weight"].any()


@pytest.mark.parametrize("option", ["--initializer-range", "--max-seq-len", "--num-train-epoch"])
def test_options_that_nobody_reads(option):
    """train.py parses initializer_range and never looks at it; TinyBERT sets each task's length and
    epochs as max_seq_len and num_train_epoch, and reads max_seq_length and num_train_epochs. Ours
    refuses an option that it does not have."""
    theirs = SimpleNamespace(max_seq_length=128)
    theirs.max_seq_len = 64  # "for SST-2"
    assert theirs.max_seq_length == 128
    with pytest.raises(ValueError, match=option):
        parser_of("distill").parse_args([option, "64"])


def test_the_order_of_every_epoch():
    """train.py's DistributedSampler is never told the epoch, and shuffles each as the first one.
    Ours is another order each time, the same after a resume."""
    lengths = np.random.default_rng(0).integers(3, 128, 200)
    epochs = [plan(lengths, tokens=512, seed=0, epoch=e) for e in (0, 1, 1)]
    orders = [np.concatenate(batches).tolist() for batches in epochs]
    assert orders[0] != orders[1] == orders[2]


def test_texts_that_are_left_out():
    """TinyBERT skips a batch that is not full, the last of each epoch; distiller.py in half
    precision drops texts and columns until both are multiples of 8. Of 29 texts in batches of 12
    they read 24, and 16. Ours reads all."""
    sizes = [12, 12, 5]
    tinybert = sum(n for n in sizes if n == 12)
    distiller = sum(n // 8 * 8 for n in sizes)
    ours = sum(map(len, plan(np.full(29, 10), tokens=120, seed=0, epoch=0)))
    assert (tinybert, distiller, ours) == (24, 16, 29)


def test_rows_of_uneven_lengths():
    """lm_seqs_dataset.py makes an array of arrays, which NumPy has refused since 1.24. Ours is one
    row of ids and where each text begins."""
    with pytest.raises(ValueError, match="inhomogeneous"):
        np.array([np.array([1, 2]), np.array([3])])


def test_the_second_side_of_a_pair_keeps_the_first_ones_words():
    """TinyBERT's data_augmentation.py writes into the line that it reads: the copies of side B
    stand beside the last copy of side A. Ours stand beside what was given."""

    class Marks(Augmenter):
        def __init__(self):
            pass

        def __call__(self, text, copies, number=0):
            return [text] + [f"{text}{i}" for i in range(copies)]

    line, theirs = ["a", "b"], []
    for side in (0, 1):
        for new in Marks()(line[side], 2)[1:]:
            line[side] = new
            theirs.append(tuple(line))
    assert theirs == [("a0", "b"), ("a1", "b"), ("a1", "b0"), ("a1", "b1")]
    ours = Marks().pair("a", "b", 2)
    assert ours == [("a", "b"), ("a0", "b"), ("a1", "b"), ("a", "b0"), ("a", "b1")]


def test_a_stranger_is_called_swapped():
    """ALBERT's data, where a document has one sentence, puts a random document's behind it and
    labels the two 1, as next sentence did. Ours cuts the text itself, and half of them are 1."""
    B, n = 400, 8
    ids = np.tile(np.array([2, 5, 6, 7, 8, 9, 10, 3]), (B, 1))
    batch = {"input_ids": ids, "attention_mask": np.ones((B, n), np.int64)}
    found = in_two_halves(batch, 0, seed=0, step=0)
    own = Counter(ids[0].tolist()) + Counter([3])  # no word of another text
    assert all(Counter(new) == own for new in found["input_ids"].tolist())
    theirs, ours = 1.0, found["sentence_order_label"].mean()
    assert theirs - ours == pytest.approx(0.5, abs=0.1)


def test_a_mean_over_nothing():
    """ALBERT divides the masked words' loss by their number + 1e-5: a batch without any has a loss
    of 0 and goes unnoticed. PyTorch's mean is NaN. Ours refuses such a batch."""
    assert np.zeros(0).sum() / (0 + 1e-5) == 0
    teacher, student, batch = pair(size=SMALL, backend="numpy")
    batch["labels"][:] = -100
    with pytest.raises(ValueError, match="labels are -100"):
        md.distill_step(student, teacher, batch, md.DistillConfig())


# ---------------------------------------------------------------- next words


def test_restricted_to_every_word():
    """With next words, restrict_ce_to_mask selects `lm_labels > -1` without the shift that the loss
    itself makes: every token has a label, so it restricts nothing. Ours compares rows that predict
    a label, which the last token of a text does not."""
    words = CASES["gpt2-words"]
    teacher, student, batch = pair(words, words, SMALL)
    mask = np.tri(4, batch["input_ids"].shape[1], 3)[::-1] > 0  # texts of 7, 6, 5 and 4 tokens
    batch = {"input_ids": batch["input_ids"], "attention_mask": mask.astype(np.int64)}
    batch["labels"] = np.where(mask, batch["input_ids"], -100)
    z, t = (
        x.forward(batch["input_ids"], batch["attention_mask"]).logits for x in (student, teacher)
    )
    theirs, ours = batch["labels"] > -1, np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    np.testing.assert_array_equal(theirs, mask)
    config = {"alpha_cos": 0.0, "alpha_ce": 1.0}
    for restrict, rows in ((False, theirs), (True, ours)):
        config["restrict_ce_to_mask"] = restrict
        step = md.distill_step(student, teacher, batch, md.DistillConfig(**config))
        expected = md.losses.kl_divergence(z[rows], t[rows], 2.0)[0]
        assert step.parts["ce"] == pytest.approx(expected, rel=1e-4)


def test_a_window_less_a_word():
    """The code beside transformers' page on perplexity takes one word off in every window, because
    labels are shifted. From the second window on the first label has a word before it, and nothing
    is lost: 20 words in windows of 8 that move on by 4 count as 16 instead of 19."""
    length, T, stride, theirs, ours, end = 20, 8, 4, 0, 0, 0
    for start in range(0, length, stride):
        stop = min(start + T, length)
        labelled, end = stop - end, stop
        theirs += labelled - 1
        ours += labelled - (start == 0)
        if stop == length:
            break
    assert (theirs, ours) == (16, 19)


def test_the_first_word_of_a_block_and_the_last_block():
    """run_clm.py cuts its text into blocks and drops what is left over; the first word of a block
    is never predicted. Of 100 words in blocks of 16 it learns 90, ours 99: its windows share a
    word, and the last one may be short."""
    T = 16
    corpus = SimpleNamespace(lengths=np.array([99]), offsets=np.array([0, 99]), ids=np.arange(99))
    windows = Windows(corpus, [0], 0, Stream(T))
    ours = (windows.lengths - np.maximum(1, windows.shared)).sum()
    assert (100 // T * (T - 1), ours) == (90, 99)
