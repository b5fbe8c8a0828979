"""Distilling an encoder–decoder: the losses as PyTorch computes them, and the teacher's texts."""

import dataclasses

import numpy as np
import pytest
import sequence_cases
from model_cases import assert_same_formula
from pair_cases import CASES, LARGE, batch_of, exact, fields, model_of
from test_step import check_lesson, check_stored_lesson

import minidistil as md
from minidistil.config import EncoderDecoderConfig
from minidistil.data import train_wordpiece
from minidistil.distill.conventions import CONVENTIONS
from minidistil.distill.objectives import HiddenMSE, Projected
from minidistil.distill.objectives.sequence_step import TAUGHT, sequence_step, taught_pairs

CASE = CASES["pair-distilbert"]
CONFIGS = {name: sequence_cases.config_of(name) for name in sequence_cases.LESSONS}


def pair():
    teacher = model_of(CASE)
    return teacher, md.student_from(teacher, (1,), decoder_layers=(0,))


@pytest.mark.parametrize("name", sequence_cases.LESSONS)
def test_a_step_is_autograds(name):
    check_lesson(sequence_cases, name)


@pytest.mark.parametrize("name", sequence_cases.LESSONS)
def test_a_step_is_autograds_stored(name):
    check_stored_lesson(sequence_cases, name, "sequences")


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_soft_targets_count_as_the_convention_says(convention):
    (teacher, student), batch = pair(), batch_of(CASE)
    config = md.DistillConfig(1.5, alpha_cos=0.0, alpha_hard=0.0, convention=convention)
    step = md.distill_step(exact(student), exact(teacher), batch, config)
    words = batch["labels"] != -100
    z, t = (exact(m).forward(**batch).logits[words] for m in (student, teacher))
    loss, dz = md.losses.soft_targets(z, t, 1.5, convention, beside_labels=False)
    assert step.parts == {"ce": pytest.approx(loss, rel=1e-9)}
    dlogits = np.zeros((*words.shape, z.shape[1]))
    dlogits[words] = config.alpha_ce * dz
    model = exact(student)
    grads = model.backward(model.forward(**batch), dlogits=dlogits)
    largest = max(np.sqrt(np.mean(g**2)) for g in grads.values())
    for n, g in step.grads.items():
        assert_same_formula(n, g, grads[n], largest)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"terms": ("hidden",)}, "term hidden looks inside one model"),
        ({"convention": "textbrewer", "temperature_by": "cwsm:1"}, "temperature_by compares"),
        ({"hard_targets": True}, "hard_targets are the argmax classes"),
    ],
)
def test_losses_that_pairs_do_not_have_are_refused(options, words):
    teacher, student = pair()
    with pytest.raises(ValueError, match=words):
        md.distill_step(student, teacher, batch_of(CASE), md.DistillConfig(**options))


def test_a_projected_pair_is_a_pair():
    """What a term has to say of a pair is said, and without terms the step is the pair's own."""
    (teacher, student), batch = pair(), batch_of(CASE)
    terms = (HiddenMSE(projection="shared"),)
    wrapped = Projected(student, teacher, terms)
    with pytest.raises(ValueError, match="term hidden looks inside one model"):
        md.distill_step(wrapped, teacher, batch, md.DistillConfig(terms=terms))
    with pytest.raises(ValueError, match="hard_targets are the argmax classes"):
        md.distill_step(wrapped, teacher, batch, md.DistillConfig(hard_targets=True))
    config = CONFIGS["default"]
    mine, own = (md.distill_step(s, teacher, batch, config) for s in (wrapped, student))
    assert mine.loss == own.loss and mine.grads.keys() == own.grads.keys()


def test_hard_labels_alone_are_the_models_own_loss():
    teacher, student = pair()
    batch = batch_of(CASE)
    step, own = sequence_step(student, teacher, batch, CONFIGS["hard"]), student.gradients(batch)
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
    assert md.student_from(teacher, (0, 1)).config.decoder.num_hidden_layers == 1
    with pytest.raises(ValueError, match=r"decoder layers 0 to 1, not \[2\]"):
        md.student_from(teacher, (0,), decoder_layers=(2,))


def test_a_student_of_other_sizes():
    """A narrower decoder of another encoder: what fits is the teacher's, the rest starts anew."""
    teacher = model_of(CASES["pair-bert"])
    config = EncoderDecoderConfig.from_dict(fields(CASE, LARGE | {"L": 1}))
    wide = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, dim=12))
    student = md.student_from(teacher, (1,), decoder_layers=(0,), config=wide, seed=2)
    assert student.config.encoder.model_type == "distilbert" and student.task == teacher.task
    np.testing.assert_array_equal(
        student.params["encoder.transformer.layer.0.attention.q_lin.weight"],
        teacher.params["encoder.encoder.layer.1.attention.self.query.weight"],
    )
    narrow = md.student_from(teacher, (1,), decoder_layers=(0,), config=config, seed=2)
    fresh = md.from_config(narrow.config, teacher.task, seed=2).params
    for name in ("enc_to_dec_proj.weight", "encoder.transformer.layer.0.ffn.lin1.bias"):
        np.testing.assert_array_equal(narrow.params[name], fresh[name])
    assert np.isfinite(sequence_step(narrow, teacher, batch_of(CASE), CONFIGS["all"]).loss)


@pytest.mark.parametrize("options, says", [
    ({"family": "distilbert"}, "the student of an encoder–decoder is one, too, not a 'distilbert'"),
    ({"config": md.BertConfig()}, "a bert cannot start as an encoder–decoder: it has one half"),
    ({"layers": (2,)}, "the teacher's encoder layers 0 to 1, not"),
    ({"vocabulary": 60}, "encoder: student and teacher must share a vocabulary, not have 60 and"),
    ({"depth": 2}, r"encoder: config has 2 layers, but 1 are named: \[0\]"),
])  # fmt: skip
def test_students_that_cannot_be(options, says):
    size = {"V": options.pop("vocabulary", 61), "L": options.pop("depth", 1)}
    if not options:
        options["config"] = EncoderDecoderConfig.from_dict(fields(CASE, LARGE | size))
    with pytest.raises(ValueError, match=says):
        md.student_from(model_of(CASE), **{"layers": (0,)} | options)
    with pytest.raises(ValueError, match="which has no cross attention: make one of it with enc"):
        bert = md.from_config(md.BertConfig(vocab_size=9, hidden_size=4, num_attention_heads=1,
                                            num_hidden_layers=1, intermediate_size=4))  # fmt: skip
        md.student_from(bert, (0,), config=model_of(CASE).config)


def test_models_that_cannot_be_compared_are_refused():
    teacher, student = pair()
    other = model_of(CASE, LARGE | {"V": 40})
    with pytest.raises(ValueError, match="vocab_size: 61 against 40"):
        sequence_step(student, other, batch_of(CASE), CONFIGS["default"])
    wide = model_of(CASES["pair-bert"])
    narrow = dataclasses.replace(CONFIGS["all"])
    sequence_step(wide, teacher, batch_of(CASE), narrow)  # decoders of one width
    with pytest.raises(ValueError, match="encoder–decoder only"):
        bert = md.from_config(md.DistilBertConfig(vocab_size=61, dim=8, n_layers=1, n_heads=2,
                                                  hidden_dim=8))  # fmt: skip
        sequence_step(student, bert, batch_of(CASE), CONFIGS["default"])
    with pytest.raises(ValueError, match="every alpha is 0"):
        sequence_step(student, teacher, batch_of(CASE), md.DistillConfig(
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
