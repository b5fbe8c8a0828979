"""Whole models on the device say what the specification says; parameters stay where they are used.

NUMBA_ENABLE_CUDASIM=1 pytest tests -m cuda
"""

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, model_of

import minidistil as md
from minidistil.testing import rms

pytestmark = pytest.mark.cuda
NEAR = 2e-5  # of the largest gradient: float32 sums in another order


def near(mine, exact, scale=None):
    return rms(mine - exact) <= NEAR * (rms(exact) if scale is None else scale)


@pytest.mark.parametrize("name", ["bert-mlm", "albert-mlm", "distilbert-single"])
def test_outputs_loss_and_gradients_are_the_specification_s(name):
    spec, batch = model_of(CASES[name], SMALL), batch_of(CASES[name], SMALL)
    exact, device = spec.with_ops(md.backend("numpy")), spec.with_ops(md.backend("cuda"))
    outs = [m.forward(**batch, hidden_states=True, attentions=True) for m in (device, exact)]
    assert near(outs[0].logits, outs[1].logits)
    assert outs[0].loss == pytest.approx(outs[1].loss, rel=1e-5)
    for field in ("hidden_states", "attentions"):
        for mine, true in zip(*(getattr(out, field) for out in outs), strict=True):
            assert near(mine, true)
    grads = [m.backward(out) for m, out in zip((device, exact), outs, strict=True)]
    scale = max(rms(g) for g in grads[1].values())
    for key, true in grads[1].items():
        assert isinstance(grads[0][key], np.ndarray)
        assert near(grads[0][key], true, scale), key


def test_parameters_live_on_the_device_and_are_fetched_when_asked_for():
    device = model_of(CASES["distilbert-mlm"], SMALL).with_ops(md.backend("cuda"))
    name = next(iter(device.params))
    assert isinstance(device.params[name], np.ndarray) and not device.params[name].flags.writeable
    assert not isinstance(device.params.arrays[name], np.ndarray)
    device.update({name: np.zeros_like(device.params[name])})
    assert not device.params[name].any()


def test_a_tap_and_a_gradient_into_it():
    spec, batch = model_of(CASES["distilbert-mlm"], SMALL), batch_of(CASES["distilbert-mlm"], SMALL)
    names = ("layer.0.scores", "layer.1.lin1")
    results = []
    for backend in ("cuda", "numpy"):
        model = spec.with_ops(md.backend(backend))
        out = model.forward(**batch, taps=names)
        d = {n: np.ones_like(out.taps[n]) * (out.taps[n] != 0) for n in names}
        results.append((out.taps, model.backward(out, dtaps=d)))
    for mine, true in zip(*results, strict=True):
        scale = max(rms(x) for x in true.values())
        assert all(near(mine[key], true[key], scale) for key in true)
