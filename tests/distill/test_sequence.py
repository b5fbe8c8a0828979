"""Distilling an encoder–decoder: the losses as PyTorch computes them, and the teacher's texts."""

import dataclasses

import numpy as np
import pytest
import sequence_cases
from pair_cases import CASES, LARGE, batch_of, model_of
from test_step import check_lesson, check_stored_lesson

import minidistil as md
from minidistil.data import train_wordpiece
from minidistil.distill.sequence import TAUGHT, student_pair, taught_pairs, word_step

CASE = CASES["pair-distilbert"]
CONFIGS = {name: sequence_cases.config_of(name) for name in sequence_cases.LESSONS}


def pair():
    teacher = model_of(CASE)
    return teacher, student_pair(teacher, (1,), (0,))


@pytest.mark.parametrize("name", sequence_cases.LESSONS)
def test_a_step_is_autograds(name):
    check_lesson(sequence_cases, name)


@pytest.mark.parametrize("name", sequence_cases.LESSONS)
def test_a_step_is_autograds_stored(name):
    check_stored_lesson(sequence_cases, name, "sequences")


def test_hard_labels_alone_are_the_models_own_loss():
    teacher, student = pair()
    batch = batch_of(CASE)
    step, own = word_step(student, teacher, batch, CONFIGS["hard"]), student.gradients(batch)
    assert step.loss == pytest.approx(own.loss) and set(step.parts) == {"hard"}
    for n, g in own.grads.items():
        np.testing.assert_array_equal(step.grads[n], g)


def test_a_student_has_its_teachers_layers():
    teacher, student = pair()
    p, q = student.params, teacher.params
    for mine, theirs in (
        ("encoder.transformer.layer.0.ffn.lin1.weight",
         "encoder.transformer.layer.1.ffn.lin1.weight"),
        ("decoder.bert.encoder.layer.0.crossattention.self.key.weight",) * 2,
        ("decoder.cls.predictions.bias",) * 2,
        ("enc_to_dec_proj.weight",) * 2,
    ):  # fmt: skip
        np.testing.assert_array_equal(p[mine], q[theirs])
    assert student.config.encoder.n_layers == student.config.decoder.num_hidden_layers == 1
    assert student_pair(teacher, (0, 1)).config.decoder.num_hidden_layers == 1
    with pytest.raises(ValueError, match=r"decoder layers 0 to 1, not \[2\]"):
        student_pair(teacher, (0,), (2,))


def test_models_that_cannot_be_compared_are_refused():
    teacher, student = pair()
    other = model_of(CASE, LARGE | {"V": 40})
    with pytest.raises(ValueError, match="vocab_size: 61 against 40"):
        word_step(student, other, batch_of(CASE), CONFIGS["default"])
    wide = model_of(CASES["pair-bert"])
    narrow = dataclasses.replace(CONFIGS["all"])
    word_step(wide, teacher, batch_of(CASE), narrow)  # decoders of one width
    with pytest.raises(ValueError, match="encoder–decoder only"):
        bert = md.from_config(md.DistilBertConfig(vocab_size=61, dim=8, n_layers=1, n_heads=2,
                                                  hidden_dim=8))  # fmt: skip
        word_step(student, bert, batch_of(CASE), CONFIGS["default"])
    with pytest.raises(ValueError, match="every alpha is 0"):
        word_step(student, teacher, batch_of(CASE), md.DistillConfig(
            alpha_ce=0.0, alpha_cos=0.0, alpha_hard=0.0, alpha_mlm=0.0))  # fmt: skip


def test_the_teacher_writes_once(tmp_path):
    texts = ["a dog runs", "two men sit on a wall", "a child plays", "a dog"]
    tokenizer = train_wordpiece(texts, 61, min_frequency=1)
    teacher = model_of(CASE)
    pairs = [(text, ["?"]) for text in texts]
    options = {"tokens": 20, "max_length": 12, "num_beams": 2, "max_new_tokens": 6}
    found = taught_pairs(teacher, tokenizer, pairs, tmp_path, **options)
    for text, (said,) in found:
        ids = teacher.generate(tokenizer([text])["input_ids"], num_beams=2, max_new_tokens=6)[0]
        assert said == tokenizer.decode(ids).strip()
    assert (tmp_path / TAUGHT).exists()
    assert taught_pairs(None, None, None, tmp_path) == found
