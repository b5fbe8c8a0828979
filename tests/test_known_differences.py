"""Where our numbers are not those of the code that we learnt from, and why: one test a difference.

Read it as a page. Each test shows their number, by the few lines that make it, and ours. "Theirs"
is written down from what the named source does; none of it is imported. Here are losses;
`test_known_differences_in_models.py` goes on with layers and first weights,
`test_known_differences_in_data.py` with masks and batches, and
`test_known_differences_in_training.py` with steps and optimisers.
"""

import math
import operator

import numpy as np
import pytest
from distill_cases import pair
from model_cases import CASES, SMALL, batch_of, model_of

import minidistil as md


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


def test_a_temperature_that_multiplies():
    """MobileBERT's distill_temperature is a factor of what the teacher's head reads: 4 makes its
    targets sharper, elsewhere softer. At 1, its README's, nobody notices. Ours divides."""
    t = draw(1, 9)
    theirs, ours = softmax(4 * t), softmax(t / 4)
    assert theirs.max() > softmax(t).max() > ours.max()
    _, pull = md.losses.soft_targets(np.zeros_like(t), t, 4.0)  # τ·(p − t) of an even student
    np.testing.assert_allclose(1 / 9 - pull / 4, ours, rtol=1e-4)


def test_squares_of_logits_are_summed_over_the_classes():
    """distiller.py's L_mse is Σ (s − t)² over the tokens alone; TextBrewer's kd_mse_loss is the
    mean over classes, too, of logits over τ: V·τ² times less. Ours is the first."""
    z, t, tau = draw(4, 5), draw(4, 5, seed=1), 3.0
    textbrewer = np.mean((z / tau - t / tau) ** 2)
    ours = md.losses.mse(z, t, reduction="batchmean")[0]
    assert ours / textbrewer == pytest.approx(5 * tau**2, rel=1e-5)


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


def test_padding_asks_in_tinybert():
    """TinyBERT's mask hides padding as a key, not as a query: what a padded token looks for is in
    the attention loss, and its vector in the hidden loss, both means over the padding, too. Ours
    has no such rows; `padded=True` takes over their divisor alone."""
    T, real, D = 6, 4, 5
    q, k, target_q, target_k = (draw(T, D, seed=i) for i in range(4))

    def theirs(q):
        mask = np.where(np.arange(T) < real, 0, -10000.0)
        both = (a @ b.T / math.sqrt(D) + mask for a, b in ((q, k), (target_q, target_k)))
        s, t = (np.where(x <= -1e2, 0, x) for x in both)
        return ((s - t) ** 2).mean()

    def ours(q):
        rows = [x[:real] for x in (q, k, target_q, target_k)]
        loss, _ = md.backend("numpy").relation.forward(
            *rows[:2], target_q=rows[2], target_k=rows[3], bounds=np.array([0, real]), n_heads=1,
            weights=np.array([1 / T**2]), measure="scores",
        )  # fmt: skip
        return loss

    noisy = q.copy()
    noisy[real:] += 9
    assert theirs(noisy) > 2 * theirs(q) > 2 * ours(q)
    assert ours(noisy) == ours(q)
    noisy[real:] = k[real:] = target_q[real:] = target_k[real:] = 0  # a padding that says nothing
    assert theirs(noisy) == pytest.approx(ours(q), rel=1e-5)


def test_a_masked_attention_loss_forgets_the_heads():
    """TextBrewer's att_mse_loss with a mask divides Σ over heads and entries by the number of
    entries: with 12 heads it is 12 times what the same loss without a mask says of full texts."""
    s, t = draw(12, 7, 7), draw(12, 7, 7, seed=1)
    without = ((s - t) ** 2).mean()
    theirs = ((s - t) ** 2).sum() / 7**2
    assert theirs / without == pytest.approx(12, rel=1e-5)
    assert md.losses.mse(s, t)[0] == pytest.approx(without, rel=1e-5)


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


# ---------------------------------------------------------------- labels


def span_loss(z, right):
    """transformers' loss of where an answer starts, or ends: logits (B,T), columns (B,)."""
    T = z.shape[1]
    right = right.clip(0, T)  # below: column 0; beyond the text: T, which is left out
    asked = np.flatnonzero(right != T)
    with np.errstate(invalid="ignore"):  # PyTorch's mean of nothing
        return -np.float64(log_softmax(z)[asked, right[asked]].sum()) / np.float64(len(asked))


def spans():
    case = CASES["distilbert-spans"]
    model, batch = model_of(case, SMALL), batch_of(case, SMALL)
    batch["attention_mask"][:] = 1
    return model, batch, batch["input_ids"].shape[1]


def test_an_answer_before_the_text_is_its_first_token():
    """transformers clamps positions to 0 … T and leaves out T alone. So -100, which elsewhere says
    "no label", says [CLS] here, and who writes it teaches "no answer". This one we share."""
    model, batch, T = spans()
    batch["start_positions"], batch["end_positions"] = np.array([[2, -100, T + 3, 1], [3, 4, 5, 2]])
    out = model.forward(**batch)
    theirs = (span_loss(out.start_logits, batch["start_positions"])
              + span_loss(out.end_logits, batch["end_positions"])) / 2  # fmt: skip
    assert out.loss == pytest.approx(theirs, rel=1e-5)
    batch["start_positions"][1] = 0
    assert model.forward(**batch).loss == out.loss


def test_a_batch_without_any_answer():
    """Where all answers lie beyond the (cut) texts, transformers' mean of nothing is NaN, and one
    step later so is every parameter. Ours refuses the batch."""
    model, batch, T = spans()
    batch["start_positions"], batch["end_positions"] = np.full((2, 4), T + 1)
    body = {n: x for n, x in batch.items() if not n.endswith("positions")}
    assert np.isnan(span_loss(model.forward(**body).start_logits, batch["start_positions"]))
    with pytest.raises(ValueError, match="no answer to learn"):
        model.forward(**batch)


def test_an_answer_in_the_padding():
    """transformers' heads give the padding a score like any token's, and its share of the loss.
    Ours has none there: the least number there is, and no share."""
    model, batch, _ = spans()
    full = model.forward(**batch)
    batch["attention_mask"][:, 6:] = 0
    batch["start_positions"] = batch["end_positions"] = np.arange(4)
    ours = model.forward(**batch)
    assert (ours.start_logits[:, 6:] == np.finfo(np.float32).min).all()
    padded = np.concatenate([ours.start_logits[:, :6], full.start_logits[:, 6:]], axis=1)
    right = batch["start_positions"]
    assert span_loss(padded, right) > 1.05 * span_loss(ours.start_logits[:, :6], right)
    ends = span_loss(ours.end_logits[:, :6], right)
    assert ours.loss == pytest.approx(
        (span_loss(ours.start_logits[:, :6], right) + ends) / 2, rel=1e-5
    )


def test_the_padding_predicts_the_first_word():
    """GPT-2's loss in transformers shifts labels whatever the mask: with padding on the left, the
    last padded column is asked for a text's first word. Ours asks real tokens only."""
    case = CASES["gpt2-words"]
    model, batch = model_of(case, SMALL), batch_of(case, SMALL)
    ids = batch["input_ids"]
    mask = np.ones_like(ids)
    mask[:, :3] = 0
    labels = np.where(mask == 1, ids, -100)
    theirs, ours = (labels[:, 1:] != -100).sum(), ((labels[:, 1:] != -100) & mask[:, :-1]).sum()
    assert theirs - ours == len(ids)
    logits = model.forward(ids, mask).logits
    columns = np.arange(3, ids.shape[1] - 1)
    words = log_softmax(logits[:, columns])
    said = np.take_along_axis(words, ids[:, columns + 1, None], 2)
    loss = model.forward(ids, mask, labels=labels).loss
    assert loss == pytest.approx(-said.mean(), rel=1e-5) and said.size == ours


def test_a_regression_that_does_not_ask_the_teacher():
    """TinyBERT's second stage on STS-B is MSE to the labels: no teacher takes part. Ours has that
    loss, too (`hard`), and beside it the distance to the teacher's numbers (`mse`)."""
    case = CASES["distilbert-regression"]
    teacher, student, batch = pair(case, case, SMALL)
    config = md.DistillConfig(alpha_ce=0.0, alpha_cos=0.0, alpha_hard=1.0, alpha_mse=1.0)
    before = md.distill_step(student, teacher, batch, config).parts
    teacher.update({"classifier.bias": teacher.params["classifier.bias"] + 1})
    after = md.distill_step(student, teacher, batch, config).parts
    theirs = np.mean((student.forward(**batch).logits[:, 0] - batch["labels"]) ** 2)
    assert before["hard"] == after["hard"] == pytest.approx(theirs, rel=1e-5)
    assert before["mse"] != after["mse"]
