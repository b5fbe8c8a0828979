"""The vocabulary head: the sum of its parts, a few rows at a time."""

import numpy as np
import pytest

from minidistil.ops import SUFFIX, backend, vocabulary
from minidistil.ops.vocabulary import DEPTH, ROWS
from minidistil.testing import compare, rms

ALL = {"alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_mse": 0.25, "tau": 2.0}


def problem(N, C=6, V=29, seed=0):
    """x, weight, bias; labels and the teacher's logits."""
    rng = np.random.default_rng(seed)
    args = [rng.normal(size=s).astype(np.float32) for s in ((N, C), (V, C), (V,))]
    labels = np.where(rng.random(N) < 0.3, rng.integers(0, V, N), -100)
    labels[0] = V - 1
    return args, labels, rng.normal(0, 2, (N, V)).astype(np.float32)


@pytest.mark.parametrize("N", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 3])
@pytest.mark.parametrize("name", SUFFIX)
def test_parts_are_those_of_the_plain_ops(name, N):
    args, labels, t = problem(N)
    y, cache = backend(name).vocabulary.forward(*args, labels=labels, teacher=t.__getitem__, **ALL)
    spec = backend("numpy")
    z, _ = spec.linear.forward(*(x.astype(np.float64) for x in args))
    t = t.astype(np.float64)
    expected = {
        "ce": spec.kl_div.forward(z, teacher=t, tau=2.0)[0],
        "mlm": spec.cross_entropy.forward(z, labels=labels)[0],
        "mse": spec.mse.forward(z, target=t, reduction="batchmean")[0],
    }
    assert cache.parts == pytest.approx(expected, rel=1e-5)
    assert y == pytest.approx(sum(ALL[f"alpha_{k}"] * v for k, v in expected.items()), rel=1e-5)


def test_the_teacher_is_asked_for_every_row_once_and_logits_live_in_chunks(monkeypatch):
    args, labels, t = problem(3 * ROWS - 7)
    asked, sizes = [], []

    def teacher(rows):
        asked.extend(range(len(t))[rows])
        return t[rows]

    plain = vocabulary.matmul

    def watched(*args, **options):
        product = plain(*args, **options)
        sizes.append(product.shape)
        return product

    monkeypatch.setattr(vocabulary, "matmul", watched)
    backend("cpu").vocabulary.forward(*args, labels=labels, teacher=teacher, **ALL)
    assert asked == list(range(len(t)))
    assert max(rows for rows, columns in sizes if columns == 29) == ROWS


@pytest.mark.parametrize("name", SUFFIX)
def test_a_row_that_no_loss_looks_at_gets_no_gradient(name):
    args, labels, _ = problem(40)
    _, cache = backend(name).vocabulary.forward(*args, labels=labels, alpha_mlm=1.0)
    dx, *_ = backend(name).vocabulary.backward(np.float32(1), cache)
    np.testing.assert_array_equal(dx.any(axis=1), labels != -100)


@pytest.mark.parametrize("name", SUFFIX)
def test_words_that_the_teacher_rules_out(name):
    args, _, t = problem(5)
    t[:, 3] = -np.inf
    y, cache = backend(name).vocabulary.forward(*args, teacher=t.__getitem__, alpha_ce=1.0)
    assert np.isfinite(y) and np.isfinite(cache.dx).all()


@pytest.mark.parametrize("name", SUFFIX)
@pytest.mark.parametrize(
    "fixed, words",
    [
        ({}, "every alpha is 0"),
        ({"alpha_ce": 1.0}, "need a teacher"),
        ({"alpha_mse": 1.0}, "need a teacher"),
        ({"alpha_mlm": 1.0}, "none of 4 rows"),
        ({"alpha_mlm": 1.0, "labels": np.full(4, -100)}, "none of 4 rows"),
        ({"alpha_ce": 1.0, "teacher": len, "tau": 0.0}, "temperature must be above 0"),
    ],
)
def test_what_is_missing_is_said(name, fixed, words):
    args, _, _ = problem(4)
    with pytest.raises(ValueError, match=words):
        backend(name).vocabulary.forward(*args, **fixed)


def test_more_words_than_are_packed_at_a_time():
    args, labels, t = problem(5, V=DEPTH + 5)
    fixed = {"labels": labels, "teacher": t.__getitem__, **ALL}
    wide = [x.astype(np.float64) for x in args]
    found = []
    for name, x in (("cpu", args), ("numpy", args), ("numpy", wide)):
        _, cache = backend(name).vocabulary.forward(*x, **fixed)
        found.append(cache[1:])
    largest = max(map(rms, found[2]))
    for name, *x in zip(("dx", "dweight", "dbias"), *found, strict=True):
        compare(name, *x, scale=largest)
