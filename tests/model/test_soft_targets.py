"""One formula, the numbers of eight code bases."""

import numpy as np
import pytest
import soft_cases
from distill_cases import BERT, CLASSES, STUDENT, pair
from model_cases import CASES, SMALL, assert_same_formula, compare_array, exact, read, unpack

import minidistil as md
from minidistil.distill.conventions import CONVENTIONS, row_temperatures, soft_targets
from minidistil.testing import check_backward, rms

KEYS = [(name, tau, shape) for name in soft_cases.NAMES for tau in soft_cases.TAUS
        for shape in soft_cases.SHAPES]  # fmt: skip


def ours(name, tau, shape, ops, dtype):
    convention, _, rest = name.partition(" ")
    z, t = (x.astype(dtype) for x in soft_cases.logits(*shape))
    return soft_targets(z, t, tau, convention, ops, beside_labels=not rest)


def check(reference, truth):
    for name, tau, shape in KEYS:
        key = f"{name}/{tau}/{shape[0]}x{shape[1]}"
        loss, d = ours(name, tau, shape, md.backend("numpy", "float64"), np.float64)
        assert_same_formula(f"{key}/grad", d, truth[f"{key}/grad"])
        value, rounded = (float(numbers[f"{key}/loss"]) for numbers in (truth, reference))
        stored = 1e-3 * abs(rounded - value)  # the last digits of what is stored
        assert loss == pytest.approx(value, rel=1e-9, abs=1e-12 + stored), key
        for backend in ("numpy", "cpu"):
            loss, d = ours(name, tau, shape, md.backend(backend), np.float32)
            largest = rms(truth[f"{key}/grad"])
            compare_array(key, d, reference[f"{key}/grad"], truth[f"{key}/grad"], largest)
            classes = shape[1] if CONVENTIONS[name.partition(" ")[0]].classes else 1
            # A small difference of logarithms, whose rounding is multiplied by τ².
            compare_array(key, loss, rounded, value, max(value, tau**2 / classes))


def test_every_convention_is_compared():
    assert {name.partition(" ")[0] for name in soft_cases.NAMES} == set(CONVENTIONS)


def test_the_numbers_of_each_code_base_stored():
    check(*unpack(read("soft-targets")["out"]))


def test_the_numbers_of_each_code_base():
    pytest.importorskip("torch")
    check(*(soft_cases.torch_numbers(dtype) for dtype in (np.float32, np.float64)))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_for_people_who_call_it_directly(name):
    z, t = (x.reshape(2, 2, 61) for x in soft_cases.logits(4, 61))
    mask = np.array([[1, 0], [1, 1]])
    loss, d = md.losses.soft_targets(z, t, 3.0, name, mask)
    chosen = mask == 1
    expected = md.losses.soft_targets(z[chosen], t[chosen], 3.0, name)
    assert isinstance(loss, float) and loss == expected[0]
    np.testing.assert_array_equal(d[chosen], expected[1])
    assert not d[~chosen].any()
    check_backward(
        lambda z: md.losses.soft_targets(z, t.astype(np.float64), 3.0, name, mask),
        lambda u, dz: [u * dz], [z], np.random.default_rng(2),
    )  # fmt: skip


def test_an_unknown_convention_is_refused():
    z, t = soft_cases.logits(2, 3)
    with pytest.raises(ValueError, match=r"huggingface, textbrewer.*, not 'hinton'"):
        md.losses.soft_targets(z, t, 2.0, "hinton")
    with pytest.raises(ValueError, match="not 'hinton'"):
        md.DistillConfig(convention="hinton")


# ---------------------------------------------------------------- in a step of distillation


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("cases", [(BERT, STUDENT), (CASES["bert-single"], CLASSES)],
                         ids=["words", "classes"])  # fmt: skip
@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_step_has_the_loss_of_its_logits(name, cases, labelled):
    teacher, student, batch = pair(*cases, SMALL)
    weights = {"alpha_mlm": 1.0 * labelled, "alpha_hard": 1.0 * labelled, "alpha_cos": 0.0}
    config = md.DistillConfig(temperature=3.0, convention=name, **weights)
    inputs = {n: x for n, x in batch.items() if n != "labels"}
    t = exact(teacher).forward(**inputs).logits
    inputs.pop("token_type_ids")
    z = exact(student).forward(**inputs).logits
    real = batch["attention_mask"] if z.ndim == 3 else None
    expected, _ = md.losses.soft_targets(z, t, 3.0, name, real, beside_labels=labelled)
    for backend in ("numpy", "cpu"):
        pair_ = (m.with_ops(md.backend(backend)) for m in (student, teacher))
        step = md.distill_step(*pair_, batch, config)
        assert step.parts["ce"] == pytest.approx(expected, rel=1e-5)
    step = md.distill_step(exact(student), exact(teacher), batch, config)
    assert step.parts["ce"] == pytest.approx(expected, rel=1e-9)
    assert step.loss == pytest.approx(
        sum(getattr(config, f"alpha_{n}") * part for n, part in step.parts.items())
    )


@pytest.mark.parametrize("name", ["tinybert", "pkd"])
@pytest.mark.parametrize("cases", [(BERT, STUDENT), (CASES["bert-single"], CLASSES)],
                         ids=["words", "classes"])  # fmt: skip
def test_its_gradient(name, cases):
    teacher, student, batch = pair(*cases, SMALL)
    student, teacher = exact(student), exact(teacher)
    config, names = md.DistillConfig(convention=name), list(student.params)

    def forward(*args):
        student.update(dict(zip(names, args, strict=True)))
        step = md.distill_step(student, teacher, batch, config)
        return step.loss, step.grads

    check_backward(
        forward, lambda u, grads: [u * grads[n] for n in names], list(student.params.values()),
        np.random.default_rng(6), tol=1e-6,
    )  # fmt: skip


# ---------------------------------------------------------------- a temperature for each row


@pytest.mark.parametrize("rule", ["flsw:1:2", "cwsm:0.8"])
def test_padding_has_no_say_in_a_temperature(rule):
    """A question of spans holds −∞ where a text is padded."""
    z, t = np.random.default_rng(2).normal(size=(2, 3, 5))
    padded = [np.pad(x, ((0, 0), (0, 2)), constant_values=-np.inf) for x in (z, t)]
    alone, beside = row_temperatures(rule, z, t, 4.0), row_temperatures(rule, *padded, 4.0)
    np.testing.assert_allclose(beside, alone, rtol=1e-12)


@pytest.mark.parametrize("rule", ["flsw:1:2", "flsw:0.5:1", "cwsm:0.8"])
def test_a_temperature_for_each_row(rule):
    """What a step makes of them: `tests/distill/test_step.py`."""
    torch = pytest.importorskip("torch")
    for shape in soft_cases.SHAPES:
        z, t = (x.astype(np.float64) for x in soft_cases.logits(*shape))
        taus, _ = soft_cases.by_row(rule, torch.tensor(z), torch.tensor(t), 4.0)
        np.testing.assert_allclose(row_temperatures(rule, z, t, 4.0), taus.numpy(), rtol=1e-12)


def test_temperatures_that_make_no_sense():
    z, t = soft_cases.logits(4, 5)
    for rule in ("flsw:1", "cwsm", "cwsm:1:2", "focal:1", "flsw:a:b"):
        with pytest.raises(ValueError, match="flsw:BETA:GAMMA or cwsm:BETA, not"):
            row_temperatures(rule, z, t, 4.0)
    with pytest.raises(ValueError, match="choose a smaller beta"):
        row_temperatures("cwsm:100", z, t, 1.0)
    with pytest.raises(ValueError, match="need convention textbrewer, not huggingface"):
        md.DistillConfig(temperature_by="cwsm:1")
    teacher, student, batch = pair(size=SMALL)
    config = md.DistillConfig(temperature_by="cwsm:1", convention="textbrewer")
    with pytest.raises(ValueError, match="a few rows at a time; leave it out"):
        md.distill_step(student, teacher, batch, config)
