"""Where our numbers are not those of the code that we learnt from, and why: one test a difference.

Read it as a page. Each test shows their number, by the few lines that make it, and ours. "Theirs"
is written down from what the named source does; none of it is imported.
"""

import argparse
import math
import operator
from types import SimpleNamespace

import numpy as np
import pytest
from distill_cases import pair
from model_cases import CASES, SMALL, batch_of, model_of

import minidistil as md
from minidistil.cli import parser_of
from minidistil.data.batches import WIDTH, plan
from minidistil.data.masking import Vocabulary, mask_tokens
from minidistil.data.next_words import Windows
from minidistil.train.optimizer import clip, decayed


def draw(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def softmax(z):
    return np.exp(log_softmax(z))


# ---------------------------------------------------------------- soft targets


def test_mean_is_over_the_classes_too():
    """PKD's KD loss and neural-compressor's 'KL': KLDivLoss(reduction="mean") divides by rows and
    by classes. With BERT's vocabulary the term is 30,522 times smaller than Hugging Face's."""
    z, t = draw(2, 30522), draw(2, 30522, seed=1)
    theirs = md.losses.soft_targets(z, t, 2.0, "pkd")[0]
    ours = md.losses.soft_targets(z, t, 2.0)[0]
    assert ours / theirs == pytest.approx(30522, rel=1e-5)


def test_without_tau_squared_a_high_temperature_silences_the_teacher():
    """TextBrewer's kd_ce_loss (default temperature 4) and TinyBERT's soft_cross_entropy leave τ²
    out, so from τ = 4 to τ = 40 their gradient shrinks a hundredfold. Ours stays."""
    z, t = draw(50, 30), draw(50, 30, seed=1)

    def size(tau, convention):
        return abs(md.losses.soft_targets(z, t, tau, convention)[1]).mean()

    assert size(4.0, "textbrewer") / size(40.0, "textbrewer") == pytest.approx(100, rel=0.2)
    assert size(4.0, "huggingface") / size(40.0, "huggingface") == pytest.approx(1, rel=0.2)


def test_cross_entropy_keeps_what_the_student_cannot_change():
    """TextBrewer, TinyBERT and neural-compressor's 'CE' leave the teacher's entropy in the loss: a
    perfect student has a loss of ln 4 for an even teacher of four classes. Ours has 0."""
    even = np.zeros((1, 4), np.float32)
    assert md.losses.soft_targets(even, even, 1.0, "textbrewer")[0] == pytest.approx(math.log(4))
    assert md.losses.soft_targets(even, even, 1.0)[0] == pytest.approx(0, abs=1e-7)


def test_alpha_0_changes_the_scale_of_the_other_loss():
    """torchdistill's KDLoss returns early when alpha, the weight of the labels, is 0, before it
    multiplies by τ²: the term is 49 times smaller at τ = 7 than with an alpha of 1e-9. With alpha
    None and no beta it does not come that far: 1 − None."""
    z, t = draw(4, 5), draw(4, 5, seed=1)
    with_labels = md.losses.soft_targets(z, t, 7.0, "torchdistill")[0]
    alone = md.losses.soft_targets(z, t, 7.0, "torchdistill", beside_labels=False)[0]
    assert with_labels / alone == pytest.approx(49)
    ours = [md.losses.soft_targets(z, t, 7.0, beside_labels=b)[0] for b in (True, False)]
    assert ours[0] == ours[1] == pytest.approx(with_labels)
    with pytest.raises(TypeError):
        operator.sub(1, None)


def test_softmax_over_dimension_1_of_token_logits_is_over_the_tokens():
    """torchdistill's KDLoss says dim=1. Of (B,T,V) that is T: a word's shares in one sentence's
    tokens add up to 1, a token's shares of the words do not. Ours always takes the last axis."""
    t = draw(2, 3, 5)
    theirs = np.exp(t) / np.exp(t).sum(axis=1, keepdims=True)
    assert not np.allclose(theirs.sum(axis=-1), 1, atol=0.1)
    loss, _ = md.losses.soft_targets(t, t, 2.0, "torchdistill")
    flat, _ = md.losses.soft_targets(t.reshape(6, 5), t.reshape(6, 5), 2.0, "torchdistill")
    assert loss == flat


def test_the_paper_prints_the_loss_without_its_sign():
    """Sanh et al. 2019, §2: L_ce = Σ t·log s, which is negative and best at −∞. The script that
    made DistilBERT minimises KL = Σ t·(log t − log s)."""
    z, t = draw(4, 5), draw(4, 5, seed=1)
    printed = (softmax(t) * log_softmax(z)).sum(axis=1).mean()
    assert printed < 0 < md.losses.soft_targets(z, t, 1.0)[0]


def test_padding_takes_part_in_the_squad_script():
    """run_squad_w_distillation.py: KL of start and end logits over all 384 positions, whatever the
    mask. BERT says something at padding too, and both distributions spread over it."""
    T, real = 384, 40
    z, t = draw(1, T), draw(1, T, seed=1)
    theirs = md.losses.kl_divergence(z, t, 2.0)[0]
    ours = md.losses.kl_divergence(z[:, :real], t[:, :real], 2.0)[0]
    assert abs(theirs / ours - 1) > 0.02
    z[:, real:] = 9.0  # the student may say there what it likes, and their loss notices
    louder = md.losses.kl_divergence(z, t, 2.0)[0]
    assert louder > 1.5 * theirs
    assert md.losses.kl_divergence(z[:, :real], t[:, :real], 2.0)[0] == ours


def test_restricting_ce_to_the_mask_leaves_the_cosine_everywhere():
    """distiller.py: restrict_ce_to_mask acts on ce and mse; L_cos goes over all real tokens. This
    one we share: it is what made the released DistilBERT possible to compare with."""
    teacher, student, batch = pair(size=SMALL)
    config = md.DistillConfig(restrict_ce_to_mask=True)
    free = md.distill_step(student, teacher, batch, md.DistillConfig())
    bound = md.distill_step(student, teacher, batch, config)
    assert bound.parts["cos"] == free.parts["cos"] and bound.parts["ce"] != free.parts["ce"]


# ---------------------------------------------------------------- attention and heads


def test_rectified_scores():
    """TinyBERT hides masked scores by setting what is ≤ −1e2 to 0 on both sides. TextBrewer's
    att_mse_loss says −1e-3, so every negative score of a real token goes as well. Rows have no
    padding, so ours compares the scores as they are."""
    student = np.array([[2.0, -3.0, -10000.0]])
    teacher = np.array([[1.0, -1.0, -10000.0]])

    def theirs(limit):
        s, t = (np.where(x <= limit, 0, x) for x in (student, teacher))
        return ((s - t) ** 2).mean()

    assert theirs(-1e2) == pytest.approx((1 + 4) / 3)
    assert theirs(-1e-3) == pytest.approx(1 / 3)
    assert md.losses.mse(student[:, :2], teacher[:, :2])[0] == pytest.approx((1 + 4) / 2)


def test_pooled_twice():
    """TinyBERT's classifier reads relu(pooled), where pooled is a tanh already: half of what the
    pooler says is cut off. BERT's classifier, and ours, reads the tanh."""
    model = model_of(CASES["bert-single"], SMALL)
    batch = batch_of(CASES["bert-single"], SMALL)
    inputs = {n: x for n, x in batch.items() if n != "labels"}
    p = model.params
    weight, bias = p["classifier.weight"], p["classifier.bias"]
    body = md.from_config(model.config, "feature-extraction")
    body.update({n.removeprefix("bert."): x for n, x in p.items() if "classifier" not in n})
    pooled = body.forward(**inputs).pooler_output
    ours = model.forward(**inputs).logits
    np.testing.assert_allclose(ours, pooled @ weight.T + bias, rtol=1e-5, atol=1e-6)
    theirs = np.maximum(pooled, 0) @ weight.T + bias
    assert (pooled < 0).mean() > 0.3 and abs(theirs - ours).max() > 0.1


def test_the_teacher_that_is_never_put_in_evaluation():
    """TinyBERT's general_distill.py and task_distill.py call eval() on no teacher: its dropout is
    active, and the same text has two answers. Ours is always in evaluation."""
    teacher, student, batch = pair(size=SMALL)
    inputs = {n: x for n, x in batch.items() if n != "labels"}
    theirs = [teacher.forward(**inputs, train=True, step=step).logits for step in (0, 1)]
    assert abs(theirs[0] - theirs[1]).max() > 0.1
    config = md.DistillConfig(alpha_mlm=0.0)
    quiet = {"dropout": 0.0, "attention_dropout": 0.0}
    config_ = md.DistilBertConfig.from_dict(student.config.to_dict() | quiet)
    calm = md.from_config(config_)
    calm.update(dict(student.params))
    ours = [md.distill_step(calm, teacher, batch, config, train=True, step=i) for i in (0, 1)]
    assert ours[0].loss == ours[1].loss


def test_positions():
    """DistilBERT and BERT count columns from 0, and padding on the left moves the text. RoBERTa
    counts from the padding's id + 1, so that 512 tokens need 514 rows of the table."""
    from minidistil.model.rows import pack

    bert, roberta = (model_of(CASES[f"{n}-mlm"], SMALL).config.architecture
                     for n in ("bert", "roberta"))  # fmt: skip
    ids = np.array([[7, 8, 9]])
    assert pack(ids, None, None, bert).position.tolist() == [0, 1, 2]
    first = roberta.padding_position + 1
    assert pack(ids, None, None, roberta).position.tolist() == [first, first + 1, first + 2]
    left, mask = np.array([[0, 0, 7, 8]]), np.array([[0, 0, 1, 1]])
    assert pack(left, mask, None, bert).position.tolist() == [2, 3]


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
