"""The same numbers as PyTorch: outputs, losses, gradients, ten steps of AdamW.

PyTorch's float32 is the reference of `compare`, the NumPy specification in float64 is exact. The
stored numbers of `golden/` stand in for PyTorch where it is not installed.
"""

from pathlib import Path

import model_cases
import numpy as np
import pytest
from model_cases import (
    CASES,
    LARGE,
    SMALL,
    batch_of,
    compare_array,
    compare_gradients,
    cotangents,
    exact,
    fields,
    model_of,
)

import minidistil as md
from minidistil.train import AdamW

GOLDEN = Path(__file__).parent.parent / "golden"
BACKENDS = ("numpy", "cpu")


def numbers(model, batch, d):
    """What `torch_numbers` gives, from a model of ours."""
    out = model.forward(**batch, hidden_states=True, attentions=True)
    grads = model.backward(out, **{f"d{name}": x for name, x in d.items()})
    result = {f"grad.{name}": g for name, g in grads.items()}
    result |= {f"hidden_states.{i}": x for i, x in enumerate(out.hidden_states)}
    result |= {f"attentions.{i}": x for i, x in enumerate(out.attentions)}
    for name in ("logits", "seq_relationship_logits", "last_hidden_state", "pooler_output", "loss"):
        if getattr(out, name) is not None:
            result[name] = np.asarray(getattr(out, name))
    return result


def after_training(model, batch, d):
    """{"after.NAME": parameter} after as many steps of AdamW; changes the model."""
    optimizer = AdamW(model.params, backend=model.ops.name, **model_cases.ADAMW)
    for _ in range(model_cases.STEPS):
        out = model.forward(**batch)
        grads = model.backward(out, **{f"d{name}": x for name, x in d.items()})
        model.update(optimizer.step(grads))
    return {f"after.{name}": p for name, p in model.params.items()}


def assert_same(mine, reference, truth, mask):
    """Compare every number that the reference has, at the real tokens."""
    compare_gradients(*({k: x for k, x in numbers.items() if k.startswith("grad.")}
                        for numbers in (mine, reference, truth)))  # fmt: skip
    for name, theirs in reference.items():
        kind = name.split(".")[0]
        if kind == "grad" or (name == "loss" and name not in truth):
            continue  # the loss of a body is made up for the reference alone
        x, r, e = mine[name], theirs, truth[name]
        if np.ndim(e) == 3:
            assert not x[mask == 0].any(), f"{name}: padding must hold zeros"
            x, r, e = x[mask == 1], r[mask == 1], e[mask == 1]
        if kind == "attentions":
            real = (mask[:, None, :, None] * mask[:, None, None, :] == 1) & np.ones_like(e, bool)
            x, r, e = x[real], r[real], e[real]
        compare_array(name, x, r, e)


def check(case, size, reference, params=None, batch=None, d=None):
    """Both backends against the reference's numbers."""
    batch = batch_of(case, size) if batch is None else batch
    d = cotangents(case, size) if d is None else d

    def fresh(backend):
        model = model_of(case, size, backend=backend)
        model.update(params or {})
        return model

    truth = exact(fresh("numpy"))
    true_numbers = numbers(truth, batch, d)
    true_numbers |= after_training(truth, batch, d)
    for backend in BACKENDS:
        model = fresh(backend)
        mine = numbers(model, batch, d) | after_training(model, batch, d)
        assert {x.dtype for name, x in mine.items() if name != "loss"} == {np.dtype(np.float32)}
        assert_same(mine, reference, true_numbers, batch["attention_mask"])


@pytest.mark.parametrize("name", CASES)
def test_live(name):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    case = CASES[name]
    batch, d = batch_of(case), cotangents(case)
    reference = model_cases.torch_numbers(model_of(case), fields(case, LARGE), batch, d)
    check(case, LARGE, reference)


@pytest.mark.parametrize("name", CASES)
def test_stored(name):
    case = CASES[name]
    with np.load(GOLDEN / f"{name}.npz") as file:
        stored = dict(file)
    kinds = {"in": {}, "cotangent": {}, "weight": {}, "out": {}}
    for key, array in stored.items():
        kind, _, rest = key.partition(":")
        kinds[kind][rest] = array
    check(case, SMALL, kinds["out"], kinds["weight"], kinds["in"], kinds["cotangent"])


def test_stored_numbers_are_few():
    assert sum(f.stat().st_size for f in GOLDEN.iterdir()) < 1_000_000


@pytest.mark.parametrize("name", ["bert-mlm", "distilbert-single", "bert-pretraining"])
def test_backends_are_interchangeable(name):
    """A step on labelled rows alone, and the same through another backend's ops."""
    case = CASES[name]
    model, batch = model_of(case), batch_of(case)
    truth = exact(model).gradients(batch)
    specification = model.with_ops(md.backend("numpy")).gradients(batch)
    kernels = model.gradients(batch)
    assert kernels.loss == pytest.approx(truth.loss, rel=1e-6)
    compare_gradients(kernels.grads, specification.grads, truth.grads)
