"""Images: DeiT's two losses as its code has them, a ViT's four, and what a student starts as."""

import numpy as np
import pytest
from image_cases import (
    LESSONS,
    SHALLOW,
    SIZE,
    batch_of,
    exact,
    lesson,
    model_of,
    pair,
    taught,
    torch_taught,
)
from model_cases import assert_same_formula, compare_array, compare_gradients, read, unpack

import minidistil as md
from minidistil.distill.dropout_seed import DropoutSeed
from minidistil.distill.objectives import Projected
from minidistil.distill.objectives.image_step import image_step
from minidistil.model.vision.vision_encoder import IMAGES
from minidistil.testing import rms


def check(student, teacher, kind, reference, truth):
    for backend in ("numpy", "cpu"):
        ops = md.backend(backend)
        mine = taught(student.with_ops(ops), teacher.with_ops(ops), kind)
        grads = [{n: x for n, x in them.items() if n.startswith("grad.")}
                 for them in (mine, reference, truth)]  # fmt: skip
        compare_gradients(*grads)
        for name in set(mine) - set(grads[0]):
            compare_array(name, mine[name], reference[name], truth[name])


@pytest.mark.parametrize("kind", LESSONS)
def test_deit_live(kind, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    models, folders = pair(), (tmp_path / "teacher", tmp_path / "student")
    for model, folder in zip(models, folders, strict=True):
        model.save_pretrained(folder)
    reference, truth = (torch_taught(folders, models, kind, t) for t in ("float32", "float64"))
    teacher, student = map(exact, models)
    largest = max(rms(x) for n, x in truth.items() if n.startswith("grad."))
    for name, x in taught(student, teacher, kind).items():
        assert_same_formula(name, x, truth[name], largest if name.startswith("grad.") else None)
    check(models[1], models[0], kind, reference, truth)


@pytest.mark.parametrize("kind", LESSONS)
def test_deit_stored(kind):
    kinds, (teacher, student) = read(f"deit-{kind}"), pair()
    teacher.update(unpack(kinds["teacher"])[0])
    student.update(unpack(kinds["student"])[0])
    check(student, teacher, kind, *unpack(kinds["out"]))


def test_its_code_averages_soft_targets_over_the_classes_its_paper_does_not():
    teacher, student = pair()
    paper, code = (
        md.DistillConfig(alpha_cos=0, alpha_ce=1, convention=name)
        for name in ("huggingface", "deit")
    )
    parts = [md.distill_step(student, teacher, batch_of(), c).parts for c in (paper, code)]
    assert parts[0]["ce"] == pytest.approx(student.config.num_labels * parts[1]["ce"], rel=1e-5)
    assert parts[0]["hard"] == parts[1]["hard"]


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("hard", [False, True])
def test_the_gradient_is_the_loss_s(family, hard):
    """Along a random direction, in float64; both are of one family, so hidden states compare."""
    teacher, student = (exact(model_of(family, IMAGES, size=s)) for s in (SIZE, SHALLOW))
    config = md.DistillConfig(alpha_mse=0.3, temperature=1.7, hard_targets=hard)
    rng, eps = np.random.default_rng(5), 1e-6
    v = {n: rng.normal(size=p.shape) for n, p in student.params.items()}
    start = {n: p.copy() for n, p in student.params.items()}
    how = (teacher, batch_of(), config, DropoutSeed(train=True, seed=3, step=4))

    def loss(sign):
        student.update({n: p + sign * eps * v[n] for n, p in start.items()})
        return image_step(student, *how).loss

    numeric = (loss(1) - loss(-1)) / (2 * eps)
    student.update(start)
    step = image_step(student, *how)
    assert set(step.parts) == {"ce", "hard", "mse", "cos"}
    assert sum(np.vdot(g, v[n]) for n, g in step.grads.items()) == pytest.approx(numeric, rel=1e-5)


def test_a_deit_s_tokens_hear_one_voice_each():
    teacher, student = pair()
    config = lesson("hard")
    whole = md.distill_step(student, teacher, batch_of(), config).grads
    labels = {**batch_of(), "labels": (batch_of()["labels"] + 1) % 5}
    moved = md.distill_step(student, teacher, labels, config).grads
    assert np.array_equal(moved["distillation_classifier.weight"],
                          whole["distillation_classifier.weight"])  # fmt: skip
    assert not np.array_equal(moved["cls_classifier.weight"], whole["cls_classifier.weight"])


def test_a_student_starts_as_its_teacher():
    teacher = model_of("vit", IMAGES)
    same = md.student_from(teacher, layers=(0, 1))
    assert all(np.array_equal(same.params[n], p) for n, p in teacher.params.items())
    student = md.student_from(teacher, layers=(1,), family="deit")
    s, t = student.params, teacher.params
    assert np.array_equal(s["cls_classifier.weight"], t["classifier.weight"])
    block = "encoder.layer.{}.attention.attention.key.weight"
    assert np.array_equal(s[f"deit.{block.format(0)}"], t[f"vit.{block.format(1)}"])
    mine, theirs = (x[f"{f}.embeddings.position_embeddings"] for f, x in (("deit", s), ("vit", t)))
    assert np.array_equal(mine[:, [0, *range(2, 11)]], theirs)
    back = md.student_from(student, layers=(0,), family="vit").params
    assert np.array_equal(back["vit.embeddings.position_embeddings"], theirs)
    assert np.array_equal(back["classifier.bias"], t["classifier.bias"])


def test_what_does_not_fit_is_refused():
    teacher, student = pair()
    for config, says in [
        ({}, "the tokens before the patches: 2 against 1; set alpha_cos to 0"),
        ({"alpha_cos": 0, "alpha_hard": 0}, "class token learns from labels"),
        ({"alpha_cos": 0, "terms": ("hidden",)}, "leave terms out"),
    ]:
        with pytest.raises(ValueError, match=says):
            md.distill_step(student, teacher, batch_of(), md.DistillConfig(**config))
    config = md.DistillConfig(alpha_cos=0, terms=("hidden",))
    with pytest.raises(ValueError, match="leave terms out of images"):
        md.distill_step(Projected(student, teacher, config.terms), teacher, batch_of(), config)
    unlabelled = {"pixel_values": batch_of()["pixel_values"]}
    with pytest.raises(ValueError, match="this batch has no labels"):
        md.distill_step(student, teacher, unlabelled, lesson("soft"))
    with pytest.raises(ValueError, match="must name some of the teacher's layers 0 to 1"):
        md.student_from(teacher, layers=(2,))
    with pytest.raises(ValueError, match="vit, deit for images, not 'bert'"):
        md.student_from(teacher, layers=(0,), family="bert")
    with pytest.raises(ValueError, match="hard_targets are the argmax classes"):
        word = md.from_config(md.BertConfig(vocab_size=9, hidden_size=4, num_attention_heads=1,
                                            num_hidden_layers=1, intermediate_size=4))  # fmt: skip
        md.distill_step(word, word, {}, md.DistillConfig(hard_targets=True))
