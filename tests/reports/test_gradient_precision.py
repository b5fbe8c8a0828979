"""Reports on gradients that are less precise than PyTorch's in float32.

Each op is compared with the same op composed in PyTorch, over seeded random shapes and scales. The
NumPy specification's products are its BLAS's, whose sums over thousands of rows are less precise
than PyTorch's; shapes below are small enough for both.
"""

import numpy as np
import op_checks
import pytest
from op_cases import MAKERS, Case, Source, sequences
from precision import Errors

from minidistil.ops import backend
from minidistil.ops.kernels import flash_attention_cuda
from minidistil.ops.runtime.cpu import threads
from minidistil.ops.runtime.cuda import SIMULATED
from minidistil.testing import FLOOR, rms

CONFIGS, DRAWS = 4, 7
DEVICE = pytest.mark.cuda
HAS_NO_DERIVATIVE_OF_ITS_OWN = {"dropout"}  # PyTorch draws another mask


def drawn(op, number):
    """A function from a Source to a Case; shape, scale and options are those of config `number`."""
    rng = np.random.default_rng(number)
    N, C = (int(x) for x in rng.integers((30, 8), (300, 100)))
    scale, offset = float(10 ** rng.uniform(-1, 1.3)), float(rng.choice([0, 1, 5]))
    made = ARGUMENTS.get(op, elementwise)
    return lambda source: Case(op, str(number), *made(source, np.random.default_rng(number),
                                                      N, C, scale, offset))  # fmt: skip


def elementwise(s, rng, N, C, scale, offset):
    return (s.normal(N, C, scale=scale),), {}


def add(s, rng, N, C, scale, offset):
    return (s.normal(N, C, scale=scale), s.normal(N, C)), {}


def embedding(s, rng, N, C, scale, offset):
    V = int(rng.integers(3, 40))
    return (s.normal(V, C, scale=scale),), {"ids": s.integers(V, N)}


def linear(s, rng, N, C, scale, offset):
    O = int(rng.integers(8, 70))
    x, weight = s.normal(N, C, scale=scale), s.normal(O, C, scale=rng.uniform(0.02, 0.3))
    return (x, weight, s.normal(O)), {}


def gelu(s, rng, N, C, scale, offset):
    return elementwise(s, rng, N, C, scale, offset)[0], {"approximate": approximation(rng)}


def linear_gelu(s, rng, N, C, scale, offset):
    return linear(s, rng, N, C, scale, offset)[0], {"approximate": approximation(rng)}


def approximation(rng):
    return str(rng.choice(["none", "tanh"]))


def layernorm(s, rng, N, C, scale, offset):
    eps = float(rng.choice([1e-12, 1e-5]))
    return (s.normal(N, C, scale=scale, mean=offset), s.normal(C, mean=1), s.normal(C)), {
        "eps": eps
    }


def add_layernorm(s, rng, N, C, scale, offset):
    (x, *rest), fixed = layernorm(s, rng, N, C, scale, offset)
    return (x, s.normal(N, C), *rest), fixed


def attention(s, rng, N, C, scale, offset):
    """Scores of up to hundreds, as weights drawn with a deviation of 0.3 make them."""
    H, D = (int(x) for x in rng.integers((1, 4), (4, 20)))
    t, u = (int(x) for x in rng.integers((5, 40), (40, 230)))
    lengths, key_lengths, causal = (t, 9), (u, 21), bool(rng.integers(2))
    loud = rng.uniform(2, 9)
    q, k = s.normal(t + 9, H * D, scale=loud), s.normal(u + 21, H * D, scale=loud)
    return (q, k, s.normal(u + 21, H * D)), {
        "bounds": sequences(*lengths), "key_bounds": sequences(*key_lengths), "n_heads": H,
        "causal": causal,
    }  # fmt: skip


def relation(s, rng, N, C, scale, offset):
    H, D, E, t = (int(x) for x in rng.integers((1, 4, 4, 20), (4, 20, 20, 60)))
    loud = rng.uniform(1, 4)
    q, k = s.normal(2, t, H * D, scale=loud)
    target_q, target_k = s.normal(2, t, H * E, scale=loud)
    measure = str(rng.choice(["kl", "ce", "scores", "probs"]))
    return (q, k), {
        "target_q": target_q, "target_k": target_k, "bounds": sequences(t), "n_heads": H,
        "weights": np.array([np.float32(1 / t)], np.float64), "measure": measure,
    }  # fmt: skip


def moments(s, rng, N, C, scale, offset):
    return (s.normal(N, C, scale=scale, mean=offset),), {}


def cross_entropy(s, rng, N, C, scale, offset):
    return (s.normal(N, C, scale=scale, mean=offset),), {"labels": s.integers(C, N)}


def weighted_cross_entropy(s, rng, N, C, scale, offset):
    args, fixed = cross_entropy(s, rng, N, C, scale, offset)
    weights = rng.uniform(0.2, 3, C).astype(np.float32)
    return args, fixed | {"class_weights": weights, "label_smoothing": 0.1}


def binary_cross_entropy(s, rng, N, C, scale, offset):
    return (s.normal(N, C, scale=scale),), {"labels": s.integers(2, N, C).astype(np.float64)}


def kl_div(s, rng, N, C, scale, offset):
    tau = float(rng.choice([1, 2, 3, 8]))
    teacher = s.normal(N, C, scale=scale, mean=offset)
    return (s.normal(N, C, scale=scale),), {"teacher": teacher, "tau": tau}


def towards(s, rng, N, C, scale, offset):
    return (s.normal(N, C, scale=scale, mean=offset),), {"target": s.normal(N, C, scale=scale)}


def vocabulary(s, rng, N, C, scale, offset):
    V, tau = int(rng.integers(10, 300)), float(rng.choice([1, 2, 3]))
    args = s.normal(N, C, scale=scale), s.normal(V, C, scale=0.3), s.normal(V)
    teacher = s.normal(N, V, scale=scale * C**0.5 * 0.3).__getitem__
    labels = np.where(s.some_rows(N), s.integers(V, N), -100)
    alphas = {"alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_mse": float(rng.choice([0, 0.5]))}
    return args, {"labels": labels, "teacher": teacher, "tau": tau, **alphas}


ARGUMENTS = {
    "add": add, "embedding": embedding, "linear": linear, "gelu": gelu, "linear_gelu": linear_gelu,
    "layernorm": layernorm, "add_layernorm": add_layernorm, "attention": attention,
    "relation": relation, "moments": moments, "cross_entropy": cross_entropy,
    "weighted_cross_entropy": weighted_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy, "kl_div": kl_div, "cosine": towards,
    "mse": towards, "mae": towards, "vocabulary": vocabulary,
}  # fmt: skip


def errors(case_of, draws, name):
    """Of the gradients of one backend, over as many draws."""
    found = Errors()
    for seed in range(draws):
        case = case_of(Source(seed))
        theirs, exact = (op_checks.torch_numbers(case, t) for t in (np.float32, np.float64))
        with threads(1):  # no bit depends on it
            mine = op_checks.run(case, name, np.float32, exact["dy"])
        found.add(mine, *map(grads, (theirs, exact)))
    return found


def grads(numbers):
    return {name: x for name, x in numbers.items() if name.startswith("grad.")}


@pytest.mark.parametrize("name", ["numpy", "cpu"])
@pytest.mark.parametrize("op", [op for op in MAKERS if op not in HAS_NO_DERIVATIVE_OF_ITS_OWN])
def test_every_op(op, name):
    """Was: with scores in the tens, attention's dv was up to 10 times as wrong as PyTorch's.
    Right: no gradient of any op is more than twice as wrong; PyTorch's float64 is the judge."""
    pytest.importorskip("torch")
    for number in range(CONFIGS):
        errors(drawn(op, number), DRAWS, name).check(f"{op} {number} on {name}")


@pytest.mark.parametrize("op", ["linear", "embedding", "layernorm", "vocabulary"])
def test_sums_over_a_long_batch(op):
    """Was: db of 20,000 rows, summed 1,250 at a time, was 4 times as wrong as PyTorch's.
    Right: at most twice, however many rows there are."""
    pytest.importorskip("torch")

    def case(s):
        args, fixed = ARGUMENTS[op](s, np.random.default_rng(0), 20_000, 4, 1.0, 0.0)
        return Case(op, "long", args, fixed)

    errors(case, 2, "cpu").check(op)


@pytest.mark.parametrize("name", ["numpy", "cpu", pytest.param("cuda", marks=DEVICE)])
def test_attention_at_large_scores_without_a_peer(name, monkeypatch):
    """Was: exp(s − lse) took lse's rounding, half a digit of the largest score, for all weights.
    Right: a row's weights sum to 1, so dv of equal cotangents sums to theirs, float32's rounding
    apart: Σ_keys dv = Σ_queries dy."""
    if name == "cuda" and SIMULATED:
        for rows in ("FORWARD_ROWS", "BACKWARD_ROWS"):
            monkeypatch.setattr(flash_attention_cuda, rows, 8)
    s, t, D, place = Source(3), 24, 8, backend(name).place
    q, k, v, dy = (s.normal(t, D, scale=x).astype(np.float32) for x in (12, 12, 1, 1))
    fixed = {"bounds": sequences(t), "n_heads": 1}
    ops = backend(name).attention
    _, cache = ops.forward(*map(place.send, (q, k, v)), **fixed)
    dv = place.fetch(ops.backward(place.send(dy), cache)[2]).astype(np.float64)
    exact = dy.astype(np.float64).sum(axis=0)
    assert rms(dv.sum(axis=0) - exact) <= 2 * FLOOR * np.sqrt(t) * rms(dy)


@pytest.mark.parametrize("name", ["numpy", "cpu", pytest.param("cuda", marks=DEVICE)])
def test_the_loss_of_relations_at_large_scores(name):
    """Was: the CPU kernel took ln softmax as s − (top + ln Σ), rounded to the last digit of top.
    Right: (s − top) − ln Σ; scores of 4,096 to 4,101 give what those of 0 to 5 give."""
    q, k = np.ones((6, 1), np.float32), np.arange(6, dtype=np.float32)[:, None]
    fixed = {"bounds": sequences(6), "n_heads": 1, "weights": np.ones(1), "measure": "ce"}

    def loss(offset):
        ops = backend(name)
        ours, theirs = (ops.place.send(x) for x in (k + np.float32(offset), q))
        y, _ = ops.relation.forward(theirs, ours, target_q=theirs, target_k=theirs, **fixed)
        return ops.place.number(y)

    assert loss(4096) == pytest.approx(loss(0), rel=1e-6)
