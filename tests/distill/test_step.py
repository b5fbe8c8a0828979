"""`distill_step`, value for value what the original distiller computes, and its gradient."""

import dataclasses

import numpy as np
import pytest
from distill_cases import (
    BY_ROW,
    CLASSES,
    CONFIGS,
    STORED,
    STUDENT,
    TARGETS,
    WORDS,
    cases_of,
    distiller,
    pair,
)
from model_cases import (
    CASES,
    LARGE,
    SMALL,
    assert_same_formula,
    compare_array,
    compare_gradients,
    exact,
    model_of,
    read,
    under,
    unpack,
)

import minidistil as md
from minidistil.model import task_loss
from minidistil.testing import check_backward, rms

HARD = {"seed": 3, "step": 4, "first_sequence": 5, "train": True}


def check(student, teacher, batch, config, reference, truth, exact=exact):
    """The specification in float64 and both backends in float32 against PyTorch's numbers."""

    def ours(*pair):
        step = md.distill_step(*pair, batch, config)
        numbers = {"loss": step.loss} | {f"part.{n}": x for n, x in step.parts.items()}
        return numbers, {f"grad.{n}": g for n, g in step.grads.items()}

    largest = max(rms(x) for n, x in truth.items() if n.startswith("grad."))
    losses, grads = ours(exact(student), exact(teacher))
    for name, x in truth.items():
        rounding = rms(reference[name] - x)  # three digits of which are stored
        if name.startswith("grad."):
            assert_same_formula(name, grads[name], x, max(largest, 1e6 * rounding))
        else:
            assert losses[name] == pytest.approx(float(x), rel=1e-9, abs=1e-3 * rounding), name
    for backend in ("numpy", "cpu"):
        ops = md.backend(backend)
        losses, grads = ours(student.with_ops(ops), teacher.with_ops(ops))
        assert set(losses) == {n for n in truth if not n.startswith("grad.")}
        for name, x in losses.items():
            # KL is a small difference of logarithms, whose rounding is multiplied by τ².
            scale = max(rms(truth[name]), config.temperature**2 * (name in ("loss", "part.ce")))
            compare_array(name, x, reference[name], truth[name], scale)
        assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
        compare_gradients(grads, reference, truth)


def check_lesson(cases, name):
    """The same for a lesson of `sentence_cases` or `sequence_cases`, asked live."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    (teacher, student), batch = cases.pair(name), cases.batch_of(name)
    how = name, teacher, student, batch, cases.LARGE
    theirs = (cases.torch_numbers(*how, dtype) for dtype in ("float32", "float64"))
    check(student, teacher, batch, cases.config_of(name), *theirs, cases.exact)


def check_stored_lesson(cases, name, file):
    """The same against a file's numbers."""
    kinds, (teacher, student) = read(file), cases.pair(name, cases.SMALL)
    student.update(unpack(kinds["student"])[0])
    teacher.update(unpack(kinds["teacher"])[0])
    theirs = (under(numbers, name) for numbers in unpack(kinds["out"]))
    batch = under(kinds["in"], name)
    check(student, teacher, batch, cases.config_of(name), *theirs, cases.exact)


def check_live(cases, config, change=lambda batch: None):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    teacher, student, batch = pair(*cases)
    change(batch)
    how = student, teacher, LARGE, cases, batch, config
    check(student, teacher, batch, config, *(distiller(*how, d) for d in ("float32", "float64")))


@pytest.mark.parametrize("name", CONFIGS)
def test_as_the_original(name):
    check_live(cases_of(name), md.DistillConfig(**CONFIGS[name]))


@pytest.mark.parametrize("name", STORED)
def test_as_the_original_stored(name):
    teacher, student, _ = pair(*cases_of(name), SMALL)
    kinds = read(f"distill-{name}")
    student.update(unpack(kinds["student"])[0])
    teacher.update(unpack(kinds["teacher"])[0])
    check(student, teacher, kinds["in"], md.DistillConfig(**CONFIGS[name]), *unpack(kinds["out"]))


@pytest.mark.parametrize("name", ["default", "restricted"])
def test_distilbert_as_teacher(name):
    check_live((STUDENT, STUDENT), md.DistillConfig(**CONFIGS[name]))


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", ["default", "mse", "hot"])
@pytest.mark.parametrize("head", TARGETS)
def test_classifiers(head, name, labelled):
    def change(batch):
        for given in task_loss.LABELS if not labelled else ():
            batch.pop(given, None)

    check_live(TARGETS[head], md.DistillConfig(**CONFIGS[name]), change)


# ---------------------------------------------------------------- the gradient


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", [n for n in CONFIGS if n not in BY_ROW])  # see row_temperatures
def test_gradient(name, train):
    config = md.DistillConfig(**CONFIGS[name])
    teacher, student, batch = pair(*cases_of(name), SMALL)
    check_gradient(exact(student), exact(teacher), batch, config, train)


def check_gradient(student, teacher, batch, config, train):
    names = list(student.params)

    def forward(*args):
        student.update(dict(zip(names, args, strict=True)))
        step = md.distill_step(student, teacher, batch, config, **HARD | {"train": train})
        return step.loss, step.grads

    args = list(student.params.values())
    rng = np.random.default_rng(6)
    check_backward(forward, lambda u, grads: [u * grads[n] for n in names], args, rng, tol=1e-6)


# ---------------------------------------------------------------- what it is made of


def test_the_loss_is_the_weighted_sum_of_its_parts():
    teacher, student, batch = pair(size=SMALL)
    config = md.DistillConfig(alpha_ce=0.3, alpha_mlm=0.7, alpha_cos=1.1, alpha_mse=0.01)
    step = md.distill_step(student, teacher, batch, config)
    assert set(step.parts) == {"ce", "mlm", "cos", "mse"}
    weighted = sum(getattr(config, f"alpha_{name}") * part for name, part in step.parts.items())
    assert step.loss == pytest.approx(weighted)
    assert list(step.grads) == list(student.params)
    doubled = {f"alpha_{name}": 2 * getattr(config, f"alpha_{name}") for name in step.parts}
    twice = md.distill_step(student, teacher, batch, dataclasses.replace(config, **doubled))
    assert twice.parts == step.parts
    for name, g in step.grads.items():
        np.testing.assert_allclose(twice.grads[name], 2 * g, atol=1e-5)


def test_restricting_ce_leaves_cos_over_all_real_tokens():
    teacher, student, batch = pair(size=SMALL)
    free = md.distill_step(student, teacher, batch, md.DistillConfig())
    bound = md.distill_step(student, teacher, batch, md.DistillConfig(restrict_ce_to_mask=True))
    assert bound.parts["cos"] == free.parts["cos"]
    assert bound.parts["mlm"] == pytest.approx(free.parts["mlm"], rel=1e-6)
    assert bound.parts["ce"] != pytest.approx(free.parts["ce"], rel=1e-3)


def test_the_teacher_is_in_evaluation_mode():
    """A student that drops nothing learns the same in training: its teacher dropped nothing."""
    teacher, student, batch = pair(size=SMALL)
    assert teacher.config.hidden_dropout_prob > 0
    config = dataclasses.replace(student.config, dropout=0.0, attention_dropout=0.0)
    calm = md.from_config(config)
    calm.update(dict(student.params))
    steps = [md.distill_step(calm, teacher, batch, md.DistillConfig(), train=t) for t in (0, 1)]
    assert steps[0].parts == steps[1].parts
    for name, g in steps[0].grads.items():
        np.testing.assert_array_equal(g, steps[1].grads[name])
    noisy = md.distill_step(student, teacher, batch, md.DistillConfig(), train=True)
    assert noisy.parts["ce"] != steps[0].parts["ce"]


def test_a_step_is_a_function_of_its_seed_and_place():
    teacher, student, batch = pair(size=SMALL)
    config = md.DistillConfig()
    first, again = (md.distill_step(student, teacher, batch, config, **HARD) for _ in range(2))
    assert first.loss == again.loss
    for change in ({"seed": 8}, {"step": 8}, {"first_sequence": 8}):
        assert md.distill_step(student, teacher, batch, config, **HARD | change).loss != first.loss


def test_padding_changes_nothing():
    teacher, student, batch = pair(size=SMALL)
    wide = {key: np.pad(x, ((0, 0), (0, 2)), constant_values=-100 if key == "labels" else 0)
            for key, x in batch.items()}  # fmt: skip
    config = md.DistillConfig(alpha_mse=0.1)
    a, b = (md.distill_step(student, teacher, x, config, **HARD) for x in (batch, wide))
    assert a.loss == b.loss
    for name, g in a.grads.items():
        np.testing.assert_array_equal(g, b.grads[name])


def test_teacher_and_student_behind_different_backends():
    teacher, student, batch = pair(size=SMALL)
    config = md.DistillConfig(alpha_mse=0.1)
    truth = md.distill_step(exact(student), exact(teacher), batch, config)
    mixed = md.distill_step(student, exact(teacher), batch, config)
    assert mixed.loss == pytest.approx(truth.loss, rel=1e-6)
    assert {g.dtype for g in mixed.grads.values()} == {np.dtype(np.float32)}


def test_token_types_go_to_the_model_that_has_them():
    teacher, student, batch = pair(size=SMALL)
    config = md.DistillConfig(alpha_mlm=0.0)
    typed = md.distill_step(student, teacher, batch, config)
    batch.pop("token_type_ids")
    assert md.distill_step(student, teacher, batch, config).loss != typed.loss


def test_a_decoder_learns_next_words_and_has_no_masked_ones():
    """Without alpha_clm the text says nothing, and alpha_mlm, whatever it is, has no part."""
    teacher, student, batch = pair(WORDS, WORDS, SMALL)
    calm, loud = (md.distill_step(student, teacher, batch, md.DistillConfig(alpha_mlm=a))
                  for a in (0.0, 9.0))  # fmt: skip
    assert set(calm.parts) == {"ce", "cos"} and calm.loss == loud.loss
    step = md.distill_step(student, teacher, batch, md.DistillConfig(alpha_clm=1.0))
    assert step.parts["clm"] == pytest.approx(student.forward(**batch).loss, rel=1e-5)
    for term in ("attention", "relations"):
        with pytest.raises(ValueError, match="in both directions, which a decoder does not have"):
            md.distill_step(student, teacher, batch, md.DistillConfig(terms=(term,)))


# ---------------------------------------------------------------- refused


def test_pairs_that_cannot_be_compared():
    teacher, student, batch = pair(size=SMALL)

    def refused(other, words, batch=batch, config=None):
        with pytest.raises(ValueError, match=words):
            md.distill_step(other, teacher, batch, config or md.DistillConfig())

    wide = model_of(STUDENT, SMALL | {"V": SMALL["V"] + 1})
    refused(wide, "must agree in vocab_size: 24 against 23")
    thick = model_of(STUDENT, SMALL | {"C": 12})
    refused(thick, "must agree in the hidden size: 12 against 9; set alpha_cos to 0")
    refused(
        model_of(CLASSES, SMALL), "must share a task: 'text-classification' against 'fill-mask'"
    )
    short = model_of(STUDENT, SMALL | {"P": 5})
    refused(short, "9 tokens do not fit 5 positions")
    unlabelled = {k: x for k, x in batch.items() if k != "labels"}
    refused(student, "needs labels", unlabelled)
    refused(student, "alpha_clm must be 0 without a causal", config=md.DistillConfig(alpha_clm=1))
    refused(student, "labels are -100", batch | {"labels": np.full_like(batch["labels"], -100)})
    refused(
        student, "nothing to learn", config=md.DistillConfig(alpha_ce=0, alpha_mlm=0, alpha_cos=0)
    )

    step = md.distill_step(thick, teacher, batch, md.DistillConfig(alpha_cos=0.0, alpha_mse=1.0))
    assert list(step.grads) == list(thick.params)
    assert np.isfinite(step.loss)


def test_classifiers_that_cannot_be_compared():
    teacher, student, batch = pair(CASES["bert-single"], CASES["distilbert-single"], SMALL)
    with pytest.raises(ValueError, match="must agree in num_labels: 2 against 3"):
        md.distill_step(student, teacher, batch, md.DistillConfig())
    numbers = CASES["distilbert-regression"]
    teacher, student, batch = pair(numbers, numbers, SMALL)
    with pytest.raises(ValueError, match="soft targets need 2 classes or more"):
        md.distill_step(student, teacher, batch, md.DistillConfig())
    step = md.distill_step(student, teacher, batch, md.DistillConfig(alpha_ce=0.0, alpha_mse=1.0))
    assert set(step.parts) == {"hard", "mse", "cos"}
    several = CASES["distilbert-multi"]
    teacher, student, batch = pair(several, several, SMALL)
    with pytest.raises(ValueError, match="soft targets need one class for each text"):
        md.distill_step(student, teacher, batch, md.DistillConfig())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"alpha_ce": -1.0}, "alpha_ce must be a number from 0 up"),
        ({"alpha_mlm": float("nan")}, "alpha_mlm must be a number from 0 up"),
        ({"alpha_cos": float("inf")}, "alpha_cos must be a number from 0 up"),
    ],
    ids=str,
)
def test_bad_config(options, words):
    with pytest.raises(ValueError, match=words):
        md.DistillConfig(**options)
