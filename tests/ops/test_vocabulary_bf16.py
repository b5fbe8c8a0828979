"""The vocabulary head in bfloat16: the plain losses of a linear whose operands are rounded."""

import numpy as np
import pytest

from minidistil.ops import backend, vocabulary_bf16
from minidistil.ops.runtime.cpu import threads
from minidistil.ops.vocabulary import DEPTH, ROWS
from minidistil.testing import compare, rms

pytestmark = pytest.mark.usefixtures("unit")

ALL = {"alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_mse": 0.25, "tau": 2.0}


def problem(N, C=40, V=61):
    """x, weight, bias; the fixed arguments."""
    rng = np.random.default_rng(N)
    args = [rng.normal(size=s).astype(np.float32) for s in ((N, C), (V, C), (V,))]
    labels = np.where(rng.random(N) < 0.3, rng.integers(0, V, N), -100)
    labels[0] = V - 1
    teacher = rng.normal(0, 2, (N, V)).astype(np.float32)
    return args, {"labels": labels, "teacher": teacher.__getitem__, **ALL}


@pytest.mark.parametrize("N", [1, ROWS + 1])
@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_it_is_the_composition(name, N):
    """In float64, from the logits of the narrow linear and back through it."""
    args, fixed = problem(N)
    wide, spec = [x.astype(np.float64) for x in args], backend("numpy", "bfloat16")
    z, head = spec.linear.forward(*wide)
    t = fixed["teacher"](slice(0, N)).astype(np.float64)
    dz = np.zeros_like(z)
    for alpha, op, given in (
        ("alpha_ce", "kl_div", {"teacher": t, "tau": 2.0}),
        ("alpha_mlm", "cross_entropy", {"labels": fixed["labels"]}),
        ("alpha_mse", "mse", {"target": t, "reduction": "batchmean"}),
    ):
        op = getattr(spec, op)
        dz += op.backward(np.float64(ALL[alpha]), op.forward(z, **given)[1])[0]
    expected = spec.linear.backward(dz, head)
    vocabulary = backend(name, "bfloat16").vocabulary
    y, cache = vocabulary.forward(*args, **fixed)
    # ∂z in float32 differs in its last bit, which may round to the other bfloat16: 2⁻⁸ of an entry.
    for mine, exact in zip(vocabulary.backward(np.float32(1), cache), expected, strict=True):
        assert mine.dtype == np.float32 and rms(mine - exact) < 1e-3 * rms(exact)
    exact, _ = vocabulary_bf16.forward(*wide, **fixed)
    assert y == pytest.approx(exact, rel=1e-5)


def test_it_is_near_float32_and_not_equal():
    args, fixed = problem(50)
    (y, near), (z, exact) = (
        backend("cpu", dtype).vocabulary.forward(*args, **fixed)
        for dtype in ("bfloat16", "float32")
    )
    assert 0 < abs(y - z) < 0.01 * z
    for mine, reference in zip(near[1:3], exact[1:3], strict=True):
        assert 1e-4 < rms(mine - reference) / rms(reference) < 2e-2


def test_more_words_than_are_packed_at_a_time():
    args, fixed = problem(5, V=DEPTH + 5)
    (_, mine), (_, spec), (_, exact) = (
        vocabulary_bf16.forward_cpu(*args, **fixed), vocabulary_bf16.forward(*args, **fixed),
        vocabulary_bf16.forward(*(x.astype(np.float64) for x in args), **fixed),
    )  # fmt: skip
    for i in (1, 2, 3):
        compare(f"gradient {i}", mine[i], spec[i], exact[i], scale=rms(exact[2]))


def test_threads_change_no_bit():
    args, fixed = problem(70, V=997)
    found = []
    for count in (1, 2):
        with threads(count):
            found.append(vocabulary_bf16.forward_cpu(*args, **fixed)[1][1:])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
