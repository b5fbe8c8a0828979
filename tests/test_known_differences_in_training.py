"""Where training differs from the code that we learnt from: data, optimisers, next words.

The second half of `test_known_differences.py`, which see.
"""

import argparse
import math
from types import SimpleNamespace

import numpy as np
import pytest
from distill_cases import pair
from model_cases import CASES, SMALL, model_of

import minidistil as md
from minidistil.cli import parser_of
from minidistil.data.batches import WIDTH, plan
from minidistil.data.masking import Vocabulary, mask_tokens
from minidistil.data.next_words import Windows
from minidistil.train.optimizer import clip, decayed

# ---------------------------------------------------------------- masking and batches


def test_the_number_of_masked_words_belongs_to_the_batch():
    """distiller.py masks ⌈0.15·all tokens⌉ words of the batch, wherever they fall: a text may get
    none. With --masking smoothed so do we. BERT's own way, our default, draws each token alone.
    Where rare words leave fewer to draw than that, its multinomial raises; ours takes them all."""
    ids = np.full((3, 10), 7)
    ids[:, 0], ids[:, -1] = 2, 3
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    words = Vocabulary(20, 4, (0, 1, 2, 3, 4))
    how = {"vocabulary": words, "seed": 0, "strategy": "smoothed", "counts": np.ones(20)}
    masked = [mask_tokens(batch, step=s, **how)["labels"] != -100 for s in range(20)]
    assert {m.sum() for m in masked} == {math.ceil(0.15 * 30)}
    assert any((m.sum(axis=1) == 0).any() for m in masked)
    everything = mask_tokens(batch, step=0, **how, probability=1.0)["labels"] != -100
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


# ---------------------------------------------------------------- optimisers


def test_decayed_layer_norms():
    """train.py spares what is called "bias" or "LayerNorm.weight" from weight decay. DistilBERT
    calls its norms sa_layer_norm, output_layer_norm, vocab_layer_norm, so they decay. Ours spares
    what has one axis, whatever its name."""
    params = model_of(CASES["distilbert-mlm"], SMALL).params
    spared = ("bias", "LayerNorm.weight")
    theirs = {n for n in params if not any(part in n for part in spared)}
    norms = {n for n in params if "norm.weight" in n.lower()}
    assert len(norms & theirs) == 2 * SMALL["L"] + 1  # all but the embeddings'
    assert not norms & decayed(params)
    assert theirs - norms == decayed(params)


def test_adam_without_its_bias_correction():
    """TinyBERT's BertAdam: with β = (0.9, 0.999) the first step is 0.1·g/√(0.001·g²) = 3.16
    learning rates long. Adam's, and ours, is one. (Their warm-up hides most of it.)"""
    g, lr = np.array([[0.5]], np.float32), 1e-3
    m, v = 0.1 * g, 0.001 * g**2
    theirs = lr * m / (np.sqrt(v) + 1e-6)
    optimizer = md.AdamW({"w": np.zeros((1, 1), np.float32)}, lr, (0.9, 0.999), 1e-6, 0.0)
    ours = -optimizer.step({"w": g})["w"]
    assert theirs.item() / lr == pytest.approx(3.16, abs=0.01)
    assert ours.item() / lr == pytest.approx(1, abs=0.01)


def test_clipped_one_by_one():
    """BertAdam clips each parameter's gradient to length 1 on its own, which turns the step away
    from the gradient: of 3 and 0.5 become 1 and 0.5. Ours scales all of them alike."""
    grads = {"a": np.array([3.0], np.float32), "b": np.array([0.5], np.float32)}
    theirs = {n: g * min(1, 1 / abs(g).item()) for n, g in grads.items()}
    assert (theirs["a"] / theirs["b"]).item() == pytest.approx(2)
    ours = dict(grads)
    clip(ours, 1.0)
    assert (ours["a"] / ours["b"]).item() == pytest.approx(6)
    assert math.hypot(*(g.item() for g in ours.values())) == pytest.approx(1, rel=1e-4)


def test_losses_in_half_precision():
    """PKD's loss functions end in .half(): what a loss of 7 gains in a step, 0.001, is gone."""
    theirs = np.float16(7.001) - np.float16(7.0)
    assert theirs == 0
    z, t = np.array([[7.0]]), np.array([[0.0]])
    assert isinstance(md.losses.mse(z, t)[0], float)


def test_the_weights_that_made_distilbert():
    """train.py's defaults are α_ce 0.5, α_mlm 0.0, α_clm 0.5, and with --mlm it stops unless
    α_clm is set to 0; its README shows 0.33 of each. The weights were made with 5, 2, 1, 0 (thread
    2013 of transformers), and these are our defaults."""
    config = md.DistillConfig()
    ours = config.alpha_ce, config.alpha_mlm, config.alpha_cos, config.alpha_clm
    assert ours == (5.0, 2.0, 1.0, 0.0)


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
    windows = Windows(corpus, [0], 0, T, 1, packed=True)
    ours = (windows.lengths - np.maximum(1, windows.seen)).sum()
    assert (100 // T * (T - 1), ours) == (90, 99)
