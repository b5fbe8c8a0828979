"""Whoever teaches: several teachers at once, one for each batch, one with words of its own."""

import numpy as np
import pytest
from distill_cases import BERT, CLASSES, STUDENT, pair
from model_cases import CASES, SMALL, batch_of, exact, model_of

import minidistil as md
from minidistil.data.two_tokenizers import THEIRS
from minidistil.distill.teachers import PerTask
from minidistil.model.ensemble import Ensemble

CONFIG = md.DistillConfig(alpha_cos=0.0, alpha_mse=0.3)
WORDS, LABELS = (BERT, STUDENT), (CASES["bert-single"], CLASSES)
KINDS = pytest.mark.parametrize("cases", [WORDS, LABELS], ids=["words", "classes"])


def two(cases):
    """student, two teachers, batch; in float64."""
    teacher, student, batch = pair(*cases, SMALL)
    other = model_of(cases[0], SMALL, seed=9)
    return exact(student), exact(teacher), exact(other), batch


@KINDS
def test_two_teachers_are_a_teacher_with_the_mean_of_their_logits(cases):
    student, one, other, batch = two(cases)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = [m.forward(ids, mask, batch["token_type_ids"]).logits for m in (one, other)]
    t = 0.25 * logits[0] + 0.75 * logits[1]
    z = student.forward(ids, mask).logits
    real = mask if cases is WORDS else None
    step = md.distill_step(student, Ensemble([one, other], (1, 3)), batch, CONFIG)
    assert step.parts["ce"] == pytest.approx(md.losses.kl_divergence(z, t, 2.0, real)[0], rel=1e-9)
    expected = md.losses.mse(z, t, real, "batchmean")[0]
    assert step.parts["mse"] == pytest.approx(expected, rel=1e-9)


@KINDS
def test_twice_the_same_teacher_is_that_teacher(cases):
    student, one, _, batch = two(cases)
    alone = md.distill_step(student, one, batch, CONFIG)
    twice = md.distill_step(student, Ensemble([one, one]), batch, CONFIG)
    assert twice.loss == pytest.approx(alone.loss, rel=1e-12)
    for name, g in alone.grads.items():
        np.testing.assert_allclose(twice.grads[name], g, rtol=1e-9, atol=1e-12)


@KINDS
def test_each_batch_has_its_teacher(cases):
    student, one, other, batch = two(cases)
    both = PerTask([one, other])
    for number, teacher in enumerate((one, other)):
        step = md.distill_step(student, both, batch | {"teacher": number}, CONFIG)
        assert step.loss == md.distill_step(student, teacher, batch, CONFIG).loss
    with pytest.raises(ValueError, match="one of 2 teachers by its number, not 2"):
        md.distill_step(student, both, batch | {"teacher": 2}, CONFIG)
    with pytest.raises(ValueError, match="not None"):
        md.distill_step(student, both, batch, CONFIG)


def test_several_teachers_have_no_hidden_state_in_common():
    student, one, other, batch = two(WORDS)
    with pytest.raises(ValueError, match="share no hidden state; set alpha_cos to 0"):
        md.distill_step(student, Ensemble([one, other]), batch, md.DistillConfig())


def test_teachers_of_other_classes_are_refused():
    _, one, _, _ = two(LABELS)
    with pytest.raises(ValueError, match="must share num_labels: 3 against 2"):
        PerTask([one, model_of(CASES["distilbert-single"], SMALL)])


# ---------------------------------------------------------------- a vocabulary of its own


def foreign():
    """student, a teacher of another vocabulary, and a batch that both can read."""
    student, _, _, batch = two(LABELS)
    teacher = exact(model_of(CASES["bert-single"], SMALL | {"V": 40}, seed=4))
    rng = np.random.default_rng(5)
    ids = rng.integers(1, 40, (4, 5))
    theirs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return student, teacher, batch | {THEIRS + name: x for name, x in theirs.items()}, theirs


def test_a_teacher_with_words_of_its_own_teaches_classes():
    student, teacher, batch, theirs = foreign()
    step = md.distill_step(student, teacher, batch, CONFIG)
    t = teacher.forward(**theirs).logits
    z = student.forward(batch["input_ids"], batch["attention_mask"]).logits
    assert step.parts["ce"] == pytest.approx(md.losses.kl_divergence(z, t)[0], rel=1e-9)


def test_and_the_first_vectors_of_its_layers():
    student, teacher, batch, theirs = foreign()
    config = md.DistillConfig(alpha_cos=0, alpha_ce=0, alpha_hard=0, terms=("patient:layers=last",))
    t = teacher.forward(**theirs, hidden_states=True).hidden_states[-1][:, 0]
    z = student.forward(batch["input_ids"], batch["attention_mask"], hidden_states=True)
    z, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z.hidden_states[-1][:, 0], t))
    step = md.distill_step(student, teacher, batch, config)
    assert step.loss == pytest.approx(np.mean((z - t) ** 2), rel=1e-6)
    for term in ("hidden", "attention", "relations", "feature-maps"):
        with pytest.raises(ValueError, match=f"the term {term} compares token by token"):
            md.distill_step(student, teacher, batch, md.DistillConfig(alpha_cos=0, terms=(term,)))


def test_a_teacher_with_words_of_its_own_teaches_choices():
    case = CASES["bert-choice"]
    student, teacher = (exact(model_of(case, SMALL | {"V": V}, seed=V)) for V in (23, 40))
    batch, other = (batch_of(case, SMALL | {"V": V}, seed=V) for V in (23, 40))
    theirs = {n: x for n, x in other.items() if n != "labels"}
    step = md.distill_step(
        student, teacher, batch | {THEIRS + n: x for n, x in theirs.items()}, CONFIG
    )
    z = student.forward(**{n: x for n, x in batch.items() if n != "labels"}).logits
    expected = md.losses.kl_divergence(z, teacher.forward(**theirs).logits)[0]
    assert step.parts["ce"] == pytest.approx(expected, rel=1e-9)


def test_words_of_its_own_are_refused_where_words_are_compared():
    student, teacher, batch, _ = foreign()
    with pytest.raises(ValueError, match=r"alpha_cos compares token by token.*set alpha_cos to 0"):
        md.distill_step(student, teacher, batch, md.DistillConfig())
    plain = {n: x for n, x in batch.items() if not n.startswith(THEIRS)}
    with pytest.raises(ValueError, match="23 against 40; they read the same ids"):
        md.distill_step(student, teacher, plain, CONFIG)
    student, _, _, batch = two(WORDS)
    teacher = model_of(BERT, SMALL | {"V": 40})
    both = batch | {f"{THEIRS}input_ids": batch["input_ids"]}
    with pytest.raises(ValueError, match="agree in vocab_size: 23 against 40"):
        md.distill_step(student, teacher, both, CONFIG)
