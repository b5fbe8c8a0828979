"""Distilling sentence vectors: the loss as sentence-transformers counts it, and its gradient."""

import dataclasses

import numpy as np
import pytest
import sentence_cases
from test_step import check_lesson, check_stored_lesson

import minidistil as md
from minidistil.model.sentence.sentence_model import (
    SENTENCES,
    Pooling,
    SentenceModel,
)

BERT = md.BertConfig(
    vocab_size=30, hidden_size=12, num_hidden_layers=4, num_attention_heads=3,
    intermediate_size=20, max_position_embeddings=16,
)  # fmt: skip
MSE = md.DistillConfig(alpha_ce=0, alpha_cos=0, alpha_hard=0, alpha_mse=3.0)
ALL = md.DistillConfig(alpha_ce=0, alpha_cos=0.7, alpha_hard=1.5, alpha_mse=3.0)
POOLINGS = [Pooling("mean", True), Pooling("mean", False), Pooling("cls", True)]


def teacher_of(pooling=POOLINGS[0], dtype="float64"):
    rng, plain = np.random.default_rng(0), md.from_config(BERT, task=SENTENCES)
    plain.update({n: (p + 0.3 * rng.normal(size=p.shape)).astype(p.dtype)
                  for n, p in plain.params.items()})  # fmt: skip
    ops = md.backend("numpy", dtype)
    return SentenceModel(BERT, plain.named_by_role(), ops, pooling)


def pairs(labels=True):
    rng = np.random.default_rng(1)
    mask = np.arange(9) < rng.integers(3, 10, (4, 2, 1))
    batch = {"input_ids": rng.integers(1, 30, (4, 2, 9)) * mask, "attention_mask": mask * 1}
    return batch | ({"labels": rng.random(4).astype(np.float32)} if labels else {})


def vectors(model, batch):
    rows = model.pack(batch["input_ids"], batch["attention_mask"])
    return model.vectors(model.infer(rows), rows)


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_a_student_takes_the_pooling_over_and_its_loss_is_the_mean_square(pooling):
    teacher, batch = teacher_of(pooling), pairs(labels=False)
    student = md.student_from(teacher, layers=(0, 2))
    assert student.pooling == pooling and student.task == SENTENCES
    step = md.distill_step(student, teacher, batch, MSE)
    expected = np.mean((vectors(student, batch) - vectors(teacher, batch)) ** 2)
    assert step.parts == {"mse": pytest.approx(expected, rel=1e-6)}
    assert step.loss == pytest.approx(3 * expected, rel=1e-6)


def test_a_student_may_read_words_of_its_own():
    """Vectors of whole texts know no tokens; the cosine of hidden states does."""
    teacher, batch, theirs = teacher_of(), pairs(labels=False), pairs(labels=False)
    theirs["input_ids"] = 1 + (theirs["input_ids"] * 7) % 29 * theirs["attention_mask"]
    body = md.from_config(dataclasses.replace(BERT, vocab_size=34), task=SENTENCES, seed=3)
    student = body.with_ops(teacher.ops)
    both = batch | {f"teacher_{name}": x for name, x in theirs.items()}
    step = md.distill_step(student, teacher, both, MSE)
    expected = np.mean((vectors(student, batch) - vectors(teacher, theirs)) ** 2)
    assert step.parts["mse"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="34 against 30; they read the same ids"):
        md.distill_step(student, teacher, batch, MSE)
    with pytest.raises(ValueError, match="alpha_cos compares token by token"):
        md.distill_step(student, teacher, both, ALL)


@pytest.mark.parametrize("config", [MSE, ALL], ids=["mse", "all"])
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_the_gradient_is_that_of_the_loss(pooling, config):
    """Along a random direction, beside a central difference."""
    teacher, batch = teacher_of(pooling), pairs()
    start = md.student_from(teacher, layers=(0, 2)).named_by_role()
    rng, ops = np.random.default_rng(2), md.backend("numpy", "float64")
    u = {n: rng.normal(size=p.shape) for n, p in start.items()}

    def step(t):
        student = SentenceModel(config_of, start, ops, pooling)
        moved = student.canonical()
        for n, p in start.items():
            moved[n] = p.astype(np.float64) + t * u[n]
        return student, md.distill_step(student, teacher, batch, config)

    config_of = md.student_from(teacher, layers=(0, 2)).config
    student, here = step(0.0)
    assert set(here.parts) == ({"mse"} if config is MSE else {"mse", "hard", "cos"})
    slope = sum(np.vdot(u[c], here.grads[name]) for c, name in student.names.items())
    t = 1e-5
    assert slope == pytest.approx((step(t)[1].loss - step(-t)[1].loss) / (2 * t), rel=1e-4)


@pytest.mark.parametrize("name", sentence_cases.LESSONS)
def test_pytorch_says_the_same(name):
    check_lesson(sentence_cases, name)


@pytest.mark.parametrize("name", sentence_cases.LESSONS)
def test_pytorch_said_the_same(name):
    check_stored_lesson(sentence_cases, name, "sentences")


@pytest.mark.parametrize(("change", "said"), [
    ({"alpha_ce": 5.0}, "set alpha_ce to 0 and alpha_mse above it"),
    ({"alpha_mse": 0.0}, "set alpha_mse above 0"),
    ({"terms": ("hidden",)}, "is not for sentence vectors"),
])  # fmt: skip
def test_losses_that_vectors_do_not_have(change, said):
    teacher = teacher_of()
    student = md.student_from(teacher, layers=(0, 2))
    config = md.DistillConfig(**{**vars(MSE), **change})
    with pytest.raises(ValueError, match=said):
        md.distill_step(student, teacher, pairs(labels=False), config)


def test_a_narrower_student_is_refused():
    small = md.BertConfig(**{**vars(BERT), "hidden_size": 6, "intermediate_size": 10})
    student = md.from_config(small, task=SENTENCES)
    with pytest.raises(ValueError, match="the width of their vectors: 6 against 12"):
        md.distill_step(student, teacher_of(), pairs(), MSE)
