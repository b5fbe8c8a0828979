"""`explain` names every mistake of the catalogue from its numbers alone, and nothing else."""

import re

import numpy as np
import pytest

import minidistil as md
from minidistil.check import reference_ops
from minidistil.check.explain import FUNCTIONS, Nothing, explain
from minidistil.check.mistakes import mistakes_of
from minidistil.check.mistakes.registry import CATALOGUE
from minidistil.check.reference_steps import steps
from minidistil.train.optimizer import clip
from minidistil.train.schedule import linear

B, T, C, H, V = 3, 7, 16, 2, 11
RNG = np.random.default_rng(0)
MASK = np.arange(T) < np.array([[7], [5], [4]])
REAL = MASK.sum()
LABELS = np.where(RNG.random((B, T)) < 0.6, RNG.integers(0, V, (B, T)), -100)
LABELS[0, :2] = 0  # a label that looks like padding


def normal(*shape):
    return RNG.normal(size=shape)


PARAMS = {"weight": normal(4, 3), "bias": normal(4), "sa_layer_norm.weight": normal(4)}
GRADIENTS = [{name: normal(*p.shape) for name, p in PARAMS.items()} for _ in range(6)]
INPUTS = {
    "embedding_sum": ((normal(V, C), normal(T + 2, C), normal(2, C)),
                      {"ids": RNG.integers(0, V, (B, T)), "types": RNG.integers(0, 2, (B, T))}),
    "layernorm": ((normal(B, T, C), normal(C), normal(C)), {"eps": 1e-3}),
    "linear": ((normal(B, T, C), normal(C, C), normal(C)), {}),
    "activation": ((normal(B, T, C),), {}),
    "residual": ((normal(B, T, C), normal(B, T, C)), {}),
    "scores": ((normal(B, H, T, C // H), normal(B, H, T, C // H)), {}),
    "softmax": ((normal(5, 6),), {}),
    "weights": ((normal(B, H, T, T), MASK), {}),
    "attention": ((normal(B, T, C), normal(B, T, C), normal(B, T, C)),
                  {"n_heads": H, "mask": MASK}),
    "pool": ((normal(B, T, C), MASK), {}),
    "projection": ((normal(B, T, C), normal(V, C), normal(V)), {}),
    "kl_div": ((3 * normal(B, T, V), 3 * normal(B, T, V)), {"mask": MASK, "tau": 3.0}),
    "cosine": ((normal(B, T, C), normal(B, T, C)), {"mask": MASK}),
    "cross_entropy": ((normal(B, T, V), LABELS), {}),
    "mse": ((normal(B, T, V), normal(B, T, V)), {"mask": MASK}),
    "mae": ((normal(B, T, V), normal(B, T, V)), {"mask": MASK}),
    "moments": ((normal(B, T, C) + 0.5,), {}),
    "relation": ((normal(B, T, C), normal(B, T, C), normal(B, T, 2 * C), normal(B, T, 2 * C)),
                 {"n_heads": H, "mask": MASK}),
    "binary_cross_entropy": ((3 * normal(B, V), RNG.integers(0, 2, (B, V))), {}),
    "steps": ((PARAMS, GRADIENTS), {"max_grad_norm": 2.0, "warmup": 3, "total": 10,
                                    "lr": 0.1, "eps": 0.1}),
}  # fmt: skip
FORMS = [
    (m, value, wrong)
    for m in mistakes_of(*INPUTS)
    for value, wrong in m.forms(Nothing)
]  # fmt: skip


def single(x):
    """The answer as somebody would hand it in: float32."""
    if isinstance(x, dict):
        return {name: single(y) for name, y in x.items()}
    return np.asarray(x, np.float32)


@pytest.mark.parametrize("op", INPUTS)
def test_right_is_right(op):
    inputs, fixed = INPUTS[op]
    assert explain(op, single(FUNCTIONS[op](*inputs, **fixed)), *inputs, **fixed) is None


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(("m", "value", "wrong"), FORMS, ids=[f"{m.id}-{v}" for m, v, _ in FORMS])
def test_a_mistake_is_named(m, value, wrong):
    inputs, fixed = INPUTS[m.op]
    attempt, truth = wrong(*inputs, **fixed), FUNCTIONS[m.op](*inputs, **fixed)
    said = explain(m.op, attempt, *inputs, **fixed)
    if said is None:  # a form that is no mistake here: the model's own ε, the exact GELU
        np.testing.assert_allclose(attempt, truth, rtol=1e-4, atol=1e-6)
        return
    assert said.split(":")[0] == m.id, said


@pytest.mark.parametrize("measure", ["ce", "scores", "probs"])
def test_a_mistake_in_any_measure_of_relations_is_named(measure):
    inputs, fixed = INPUTS["relation"]
    fixed = fixed | {"measure": measure}
    truth = reference_ops.relation(*inputs, **fixed)
    named = set()
    for m in mistakes_of("relation"):
        for _, wrong in m.forms():
            attempt = wrong(*inputs, **fixed)
            said = explain("relation", attempt, *inputs, **fixed)
            if abs(attempt - truth) <= 1e-9 * truth:  # a square has no sides to be swapped
                assert said is None
                continue
            assert said.split(":")[0] == m.id, said
            named.add(m.id)
    assert len(named) >= 6


def relations(q, k, teacher_q, teacher_k, scaled=True, rows=REAL):
    """MiniLM's loss head by head and text by text, as somebody would write it."""
    total = 0
    for b, t in enumerate(MASK.sum(axis=1)):
        for h in range(H):
            sides = []
            for x, y in ((q, k), (teacher_q, teacher_k)):
                D = x.shape[2] // H
                x, y = (z[b, :t, h * D : (h + 1) * D] for z in (x, y))
                sides.append(reference_ops.softmax(x @ y.T / (np.sqrt(D) if scaled else 1)))
            mine, wanted = sides
            total += (wanted * np.log(wanted / mine)).sum()
    return total / (rows * H)


def plain_bce(z, labels):
    p = 1 / (1 + np.exp(-z))
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p))


PLANTED = {  # written without a line of the catalogue: the op, the attempt, what is said of it
    "relations": ("relation", relations, None),
    "unscaled": ("relation", lambda *x: relations(*x, scaled=False),
                 r"relation-scale-missing: .*\(both sides\)"),
    "by columns": ("relation", lambda *x: relations(*x, rows=B * T),
                   "relation-count: .*all B·T columns and the heads"),
    "moments": ("moments", lambda x: np.stack([x.mean(-1), x.var(-1)]), None),
    "unbiased": ("moments", lambda x: np.stack([x.mean(-1), x.var(-1, ddof=1)]),
                 "moments-variance: .*divided by C − 1"),
    "mae": ("mae", lambda s, t: abs(s - t)[MASK].mean(), None),
    "by rows": ("mae", lambda s, t: abs(s - t)[MASK].sum(-1).mean(), "mae-count: .*rows alone"),
    "padded": ("mae", lambda s, t: abs(s - t).mean(), "mae-over-padding: "),
    "bce": ("binary_cross_entropy", lambda z, y: plain_bce(z, y).mean(), None),
    "sum": ("binary_cross_entropy", lambda z, y: plain_bce(z, y).sum(-1).mean(),
            "bce-sum: .*summed over the labels, mean over texts"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_others_write_of_the_objectives_is_told_apart(name):
    op, function, says = PLANTED[name]
    inputs, fixed = INPUTS[op]
    said = explain(op, single(function(*inputs)), *inputs, **fixed)
    assert said is None if says is None else re.match(says, said), said
    if says:  # neither of these numbers is exactly the mistake's
        off = function(*inputs) * 1.001
        assert "None of the known mistakes" in explain(op, off, *inputs, **fixed)


def test_a_sequence_may_count_as_its_recipe_says():
    """RelationLoss: the mean over sequences of means over their rows."""
    inputs, fixed = INPUTS["relation"]
    t = MASK.sum(axis=1)
    fair = relations(*inputs)
    assert "relation-count" in explain("relation", fair, *inputs, **fixed, weights=1 / (B * H * t))
    own = reference_ops.relation(*inputs, **fixed, weights=1 / (B * H * t))
    assert "each sequence by its own rows" in explain("relation", own, *inputs, **fixed)
    assert explain("relation", own, *inputs, **fixed, weights=1 / (B * H * t)) is None


def test_a_mistake_inside_attention_is_named():
    named, (inputs, fixed) = 0, INPUTS["attention"]
    for m in mistakes_of("heads", "scores", "weights"):
        for _, wrong in m.forms():
            with np.errstate(all="ignore"):
                attempt = reference_ops.attention(*inputs, **fixed, replaced={m.op: wrong})
            said = explain("attention", attempt, *inputs, **fixed)
            assert said is None or said.split(":")[0] == m.id
            named += said is not None
    assert named >= 25


def test_what_is_unknown_is_not_named():
    inputs, fixed = INPUTS["layernorm"]
    answer = reference_ops.layernorm(*inputs, **fixed)
    ids = {m.id for m in CATALOGUE}
    for attempt in (answer + 0.01 * normal(*answer.shape), 2 * answer, answer + 1, answer[::-1]):
        said = explain("layernorm", attempt, *inputs, **fixed)
        assert said.split(":")[0] not in ids and "None of the known mistakes" in said
    assert "2 times" in explain("layernorm", 2 * answer, *inputs, **fixed)
    assert "transposed" in explain("softmax", np.ones((6, 5)), np.ones((5, 6)))
    assert "nothing" in explain("softmax", None, np.ones((5, 6)))
    with pytest.raises(ValueError, match=r"op must be one of .*'conv'"):
        explain("conv", answer)


def test_every_mistake_reads_well():
    for m in mistakes_of(*FUNCTIONS, "block", "layer_of"):
        assert m.says.endswith(".") and m.yours and m.right and m.fix, m.id


def test_the_steps_are_those_of_training():
    """check/ may not import train/, a neighbour: the two must agree."""
    params = {name: p.copy() for name, p in PARAMS.items()}
    optimizer = md.AdamW(params, lr=0.1, weight_decay=0.02, backend="numpy")
    for t, grads in enumerate(GRADIENTS):
        grads = dict(grads)
        clip(grads, 2.0, backend="numpy")
        params.update(optimizer.step(grads, lr=0.1 * linear(t, warmup=3, total=10)))
    mine = steps(
        PARAMS, GRADIENTS, lr=0.1, weight_decay=0.02, max_grad_norm=2.0, warmup=3, total=10
    )
    for name in params:
        np.testing.assert_allclose(mine[name], params[name], rtol=1e-12)
