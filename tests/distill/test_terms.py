"""Terms: gradients against finite differences, formulas against PyTorch, and what is refused."""

import dataclasses

import numpy as np
import pytest
from distill_cases import stopped_at
from model_cases import assert_same_formula, compare_array, read, under, unpack
from term_cases import EVERY, QUIET, batch, pair, prepared, torch_numbers, width_of

import minidistil as md
from minidistil.distill.objectives import (
    AttentionLoss,
    FeatureMapTransfer,
    HiddenMSE,
    PatientMSE,
    Projected,
    RelationLoss,
    pairs_of,
)
from minidistil.testing import rms
from minidistil.train import Distillation, Run, TrainConfig, run_loop

NAMES = pytest.mark.parametrize("name", EVERY)


class Nudged(Projected):
    """One whose parameters lie a step along a direction, in float64."""

    def __init__(self, base, direction, step):
        self.student = base.student.with_ops(base.ops)
        at = {n: np.asarray(p, np.float64) + step * direction[n] for n, p in base.params.items()}
        self.terms, self.learned = base.terms, {n: at.pop(n) for n in base.learned}
        canonical = {public: c for c, public in self.student.names.items()}
        for n, p in at.items():
            self.student.canonical()[canonical[n]] = p


@NAMES
def test_the_gradient_is_the_derivative(name):
    student, teacher, config = prepared(name)
    rng = np.random.default_rng(1)
    direction = {n: rng.normal(size=p.shape) for n, p in student.params.items()}
    direction["bert.embeddings.word_embeddings.weight"][0] = 0  # padding is not trained
    step = 1e-5

    def loss(sign):
        return md.distill_step(
            Nudged(student, direction, sign * step), teacher, batch(), config
        ).loss

    grads = md.distill_step(Nudged(student, direction, 0), teacher, batch(), config).grads
    assert grads.keys() == set(student.params)
    along = sum((grads[n] * direction[n]).sum() for n in grads)
    assert along == pytest.approx((loss(1) - loss(-1)) / (2 * step), rel=1e-6)
    assert abs(along) > 1e-4


# ---------------------------------------------------------------- the originals' formulas


def check(student, teacher, config, backend, reference, truth):
    """A backend, None for the specification in float64, against PyTorch's loss and gradients."""
    step = md.distill_step(student, teacher, batch(), config)
    largest = max(rms(x) for n, x in truth.items() if n != "loss")
    mine = {"loss": np.asarray(step.loss)} | {f"grad.{n}": g for n, g in step.grads.items()}
    assert step.loss > 1e-3 and set(truth) <= set(mine)
    for name, x in mine.items():
        scale = None if name == "loss" else largest
        if name not in truth:
            assert not x.any(), name
        elif backend is None:
            assert_same_formula(name, x, truth[name], scale)
        else:
            compare_array(name, x, reference[name], truth[name], scale)


@NAMES
def test_as_the_originals(name):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    pytest.importorskip("transformers")
    theirs = [torch_numbers(*prepared(name), dtype) for dtype in ("float32", "float64")]
    for backend in (None, "numpy", "cpu"):
        check(*prepared(name, backend and md.backend(backend)), backend, *theirs)


@pytest.mark.parametrize("backend", [None, "numpy", "cpu"])
@NAMES
def test_as_the_originals_stored(name, backend):
    kinds = read("terms")
    given = [unpack(kinds[f"{of}-{width_of(name)}"])[0] for of in ("student", "teacher")]
    learned, numbers = unpack(kinds["learned"])[0], unpack(kinds["out"])
    mine, *theirs = (under(group, name) for group in (learned, *numbers))
    check(*prepared(name, backend and md.backend(backend), (*given, mine)), backend, *theirs)


# ---------------------------------------------------------------- training, and what is refused


def test_projections_train_with_the_student_and_are_not_saved(tmp_path):
    student, teacher, config = prepared("hidden", md.backend("cpu"))
    before = student.learned["terms.0.project.weight"].copy()
    optimizer = md.AdamW(student.params, lr=0.02)
    losses = []
    for _ in range(5):
        done = md.distill_step(student, teacher, batch(), config)
        losses.append(done.loss)
        student.update(optimizer.step(done.grads))
    assert losses[-1] < losses[0]
    assert not np.allclose(student.params["terms.0.project.weight"], before)
    student.save_pretrained(tmp_path)
    saved = md.from_pretrained(tmp_path)
    assert not any(n.startswith("terms") for n in saved.params)
    np.testing.assert_array_equal(
        saved.params["bert.embeddings.LayerNorm.weight"],
        student.params["bert.embeddings.LayerNorm.weight"],
    )


class Batches:
    """The batch's texts one after another, again and again."""

    def batches(self, epoch):
        return [np.array([i]) for i in range(3)]

    def collate(self, indices, *, step, first_sequence=0):
        return {name: x[indices] for name, x in batch().items()}


@pytest.mark.parametrize("name", ["hidden", "hidden-each"])
def test_an_interrupted_run_goes_on_with_its_projections(name, tmp_path):
    def run(folder, stop=None, resume=False):
        student, teacher, config = prepared(name, md.backend("cpu"))
        objective = Distillation(student, teacher, config)
        stopped_at(objective, stop)
        options = TrainConfig(steps=5, lr=0.01, checkpoint_every=1, schedule="constant")
        run_loop(objective, Batches(), options, run=Run(folder, resume=resume), progress=False)
        return student.params

    whole = run(tmp_path / "whole")
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", stop=3)
    again = run(tmp_path / "cut", resume=True)
    learnt = [n for n in whole if n.startswith("terms.0.project")]
    assert len(learnt) == (2 if name == "hidden" else 4)
    before = prepared(name)[0].params
    for n, p in whole.items():
        np.testing.assert_array_equal(p, again[n], err_msg=n)
        assert n not in learnt or (p != before[n]).any()


def test_weights_of_several_terms_add_up():
    student, teacher = pair(teacher_C=8)
    terms = (AttentionLoss("kl", 3.0), PatientMSE(2.0))
    config = md.DistillConfig(**QUIET | {"alpha_mlm": 1.0}, terms=terms)
    done = md.distill_step(student, teacher, batch(), config)
    kl, patient, mlm = (done.parts[n] for n in ("attention.0", "patient.1", "mlm"))
    assert done.loss == pytest.approx(3 * kl + 2 * patient + mlm)


def test_layer_maps():
    assert pairs_of("uniform", 3, 6) == ((1, 2), (2, 4), (3, 6))
    assert pairs_of("skip", 3, 6) == ((1, 2), (2, 4))
    assert pairs_of("last", 3, 6) == ((3, 6),)
    assert pairs_of("first", 2, 6) == ((1, 1), (2, 2))
    assert pairs_of("uniform", 1, 2, embeddings=True) == ((0, 0), (1, 2))
    with pytest.raises(ValueError, match="5 layers of the teacher do not divide into 2"):
        pairs_of("uniform", 2, 5)
    with pytest.raises(ValueError, match=r"layers \(3, 1\): the student has 0 to 2"):
        pairs_of(((3, 1),), 2, 4)


@pytest.mark.parametrize("term, says", [
    (HiddenMSE(projection="none"), "8 channels are not the teacher's 12"),
    (HiddenMSE(), "learns project.weight: give distill_step Projected"),
    (PatientMSE(), "8 channels against 12; use HiddenMSE"),
    (FeatureMapTransfer(), "8 channels against 12"),
    (RelationLoss(heads=5), "the student's 8 channels do not split into 5 relation heads"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(term, says):
    student, teacher = pair()
    with pytest.raises(ValueError, match=says):
        md.distill_step(student, teacher, batch(), md.DistillConfig(**QUIET, terms=(term,)))


def test_heads_that_differ_are_refused():
    student, teacher = pair()
    student.config = dataclasses.replace(student.config, num_attention_heads=4)
    for term, says in ((AttentionLoss(), "4 heads against 2"), (RelationLoss(), "set heads")):
        with pytest.raises(ValueError, match=says):
            md.distill_step(student, teacher, batch(), md.DistillConfig(**QUIET, terms=(term,)))
