"""BertAdam and Lamb: ten steps against their code's formulas in float64, on every backend."""

import numpy as np
import pytest

from minidistil.testing import compare
from minidistil.train import AdamW, TrainConfig, run_loop
from minidistil.train.bert_optimizers import BertAdam, Lamb

LR, BETAS, EPS, DECAY = 3e-3, (0.8, 0.95), 1e-6, 0.1
SHAPES = {"weight": (37, 53), "bias": (37,), "zero": (3, 4)}
BOTH = pytest.mark.parametrize("kind", [BertAdam, Lamb])


def draw(rng, dtype=np.float64, scale=1.0):
    found = {name: rng.normal(0, scale, shape) for name, shape in SHAPES.items()}
    return {name: x.astype(np.float32).astype(dtype) for name, x in found.items()}


def ten_steps(kind, params, history, backend):
    params = dict(params)
    optimizer = kind(params, LR, BETAS, EPS, DECAY, backend=backend)
    for step, grads in enumerate(history):
        params.update(optimizer.step(grads, lr=LR * (1 - step / 20)))
    return params


def restated(kind, params, history):
    """The two codes, in float64, a parameter at a time."""
    out = {}
    for name, p in params.items():
        p = p.astype(np.float64)
        m = v = np.zeros_like(p)
        for step, grads in enumerate(history):
            g, lr = grads[name].astype(np.float64), LR * (1 - step / 20)
            if kind is BertAdam:
                g = g * min(1, 1 / (np.linalg.norm(g) + 1e-6))
            m = BETAS[0] * m + (1 - BETAS[0]) * g
            v = BETAS[1] * v + (1 - BETAS[1]) * g * g
            update = m / (np.sqrt(v) + EPS)
            if name != "bias":
                update = update + DECAY * p
            ratio = 1.0
            if kind is Lamb and name != "bias":
                w_norm, u_norm = np.linalg.norm(p), np.linalg.norm(update)
                ratio = w_norm / u_norm if w_norm > 0 and u_norm > 0 else 1.0
            p = p - ratio * lr * update
        out[name] = p
    return out


def world(dtype, seed=7):
    rng = np.random.default_rng(seed)
    params = draw(rng, dtype)
    params["zero"] = np.zeros_like(params["zero"])
    return params, [draw(rng, dtype, scale=0.05 + i) for i in range(10)]


@BOTH
def test_ten_steps_are_those_of_the_code(kind):
    mine, exact = ten_steps(kind, *world(np.float64), "numpy"), restated(kind, *world(np.float64))
    for name in SHAPES:
        np.testing.assert_allclose(mine[name], exact[name], rtol=1e-12, atol=1e-13)


@BOTH
def test_the_kernels_are_as_exact_as_the_specification(kind):
    spec, mine = (ten_steps(kind, *world(np.float32), b) for b in ("numpy", "cpu"))
    exact = restated(kind, *world(np.float64))
    for name in SHAPES:
        assert mine[name].dtype == np.float32 and not mine[name].flags.writeable
        compare(name, mine[name], spec[name], exact[name])


@pytest.mark.cuda
@BOTH
def test_on_the_device(kind):
    from minidistil.ops.runtime.cuda import to_device, to_host

    params, history = world(np.float32)
    exact = restated(kind, *world(np.float64))
    there = {name: to_device(p) for name, p in params.items()}
    optimizer = kind(there, LR, BETAS, EPS, DECAY, backend="cuda")
    for step, grads in enumerate(history):
        sent = {name: to_device(g) for name, g in grads.items()}
        there.update(optimizer.step(sent, lr=LR * (1 - step / 20)))
    for name, p in exact.items():
        np.testing.assert_allclose(to_host(there[name]), p, rtol=1e-4, atol=1e-5)


def test_a_step_of_lamb_is_as_long_as_the_matrix():
    params, history = world(np.float64)
    after = Lamb(params, LR, BETAS, EPS, DECAY, backend="numpy").step(history[0])
    moved = np.linalg.norm(after["weight"] - params["weight"])
    assert moved == pytest.approx(LR * np.linalg.norm(params["weight"]))


def test_the_loop_takes_them_by_name():
    class Valley:
        params = {"w": np.full((2, 2), 4.0, np.float32)}  # noqa: RUF012

        def update(self, arrays):
            self.params = self.params | arrays

    class Objective:
        def __init__(self):
            self.model = Valley()

        def gradients(self, batch, **place):
            return {"loss": 0.0}, {"w": self.model.params["w"].copy()}

    class Data:
        def batches(self, epoch):
            return [np.arange(1)]

        def collate(self, indices, **place):
            return {"input_ids": np.ones((1, 1)), "attention_mask": np.ones((1, 1))}

    found = {}
    for name, kind in (("adamw", AdamW), ("bertadam", BertAdam), ("lamb", Lamb)):
        objective = Objective()
        config = TrainConfig(steps=1, optimizer=name, warmup=0, max_grad_norm=0, lr=0.1)
        run_loop(objective, Data(), config, progress=False)
        start = {"w": np.full((2, 2), 4.0, np.float32)}
        one = kind(start, 0.1, config.betas, config.eps, config.weight_decay)
        np.testing.assert_array_equal(objective.model.params["w"], one.step(start)["w"])
        found[name] = objective.model.params["w"][0, 0]
    assert len(set(found.values())) == 3
    with pytest.raises(ValueError, match="adamw, bertadam, lamb, not 'sgd'"):
        TrainConfig(steps=1, optimizer="sgd")
