"""Whole models on the device say what the specification says; parameters stay where they are used.

NUMBA_ENABLE_CUDASIM=1 pytest tests -m cuda
"""

import image_cases
import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, model_of

import minidistil as md
from minidistil.model.sentence.sentence_model import Pooling, SentenceModel
from minidistil.ops.runtime.cuda import to_host
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


def test_images_too():
    """A DeiT, which is a ViT with a second token and a second head."""
    spec = image_cases.model_of("deit", "image-classification", size=image_cases.SHALLOW)
    batch = {n: x[:2] for n, x in image_cases.batch_of().items()}
    device, exact = (spec.with_ops(md.backend(name)) for name in ("cuda", "numpy"))
    steps = [m.gradients(batch) for m in (device, exact)]
    assert steps[0].loss == pytest.approx(steps[1].loss, rel=1e-5)
    scale = max(rms(g) for g in steps[1].grads.values())
    for key, true in steps[1].grads.items():
        assert isinstance(steps[0].grads[key], np.ndarray)
        assert near(steps[0].grads[key], true, scale), key


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


TINY = {"V": 9, "C": 4, "H": 1, "L": 1, "F": 5, "P": 8}  # the simulator is slow
HEADS = ["distilbert-spans", "distilbert-choice"]  # the others read rows as the tests above do


def same_step(spec, batch):
    """A training step on the device is the specification's."""
    exact = spec.with_ops(md.backend("numpy")).gradients(batch)
    mine = spec.with_ops(md.backend("cuda")).gradients(batch)
    assert mine.loss == pytest.approx(exact.loss, rel=1e-5)
    scale = max(rms(g) for g in exact.grads.values())
    for key, true in exact.grads.items():
        assert near(to_host(mine.grads[key]), true, scale), key


@pytest.mark.parametrize("name", HEADS)
def test_a_step_of_what_rearranges_its_logits(name):
    same_step(model_of(CASES[name], TINY), batch_of(CASES[name], TINY))


def test_a_step_of_sentence_vectors():
    body = model_of(CASES["distilbert-body"], TINY)
    ids = np.random.default_rng(0).integers(1, 9, (2, 2, 5))
    mask = np.ones_like(ids)
    mask[0, 0, 2:] = mask[1, 1, 3:] = 0
    same_step(
        SentenceModel(body.config, body.named_by_role(), body.ops, Pooling("mean")),
        {"input_ids": ids, "attention_mask": mask, "labels": np.array([0.3, 0.8], np.float32)},
    )
