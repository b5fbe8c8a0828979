"""The same numbers as PyTorch: outputs, losses, gradients, ten steps of AdamW.

In float64 the two are equal; in float32 every backend is as near to that as PyTorch's float32 is.
The stored numbers of `golden/` stand in for PyTorch where it is not installed.
"""

import model_cases
import numpy as np
import pytest
from model_cases import (
    CASES,
    LARGE,
    SMALL,
    STORED,
    assert_same_formula,
    batch_of,
    compare_array,
    compare_gradients,
    cotangents,
    exact,
    fields,
    model_of,
    read,
    torch_numbers,
    unpack,
)

import minidistil as md
from minidistil.testing import rms
from minidistil.train import AdamW

BACKENDS = ("numpy", "cpu")
SPANS = ("start_logits", "end_logits")


def numbers(model, batch, d):
    """What `torch_numbers` gives, from a model of ours."""
    out = model.forward(**batch, hidden_states=True, attentions=True)
    grads = model.backward(out, **{f"d{name}": x for name, x in d.items()})
    result = {f"grad.{name}": g for name, g in grads.items()}
    result |= {f"hidden_states.{i}": x for i, x in enumerate(out.hidden_states)}
    result |= {f"attentions.{i}": x for i, x in enumerate(out.attentions)}
    for name in ("logits", "start_logits", "end_logits", "seq_relationship_logits", "sop_logits",
                 "last_hidden_state", "pooler_output", "loss"):  # fmt: skip
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


def gradients(numbers):
    return {name: x for name, x in numbers.items() if name.startswith("grad.")}


def assert_padding_holds_zeros(numbers, mask):
    """Zeros, and where an answer starts or ends the least number there is."""
    for name, x in numbers.items():
        if name in SPANS:
            assert (x[mask == 0] == np.finfo(x.dtype).min).all()
        elif np.ndim(x) == 3:
            assert not x[mask == 0].any(), f"{name}: padding must hold zeros"


def real(name, x, mask):
    """An output (B,T,·) or (B,H,T,T) where there are tokens; anything else as it is."""
    if np.ndim(x) == 3 or name in SPANS:
        return x[mask == 1]
    if np.ndim(x) == 4:
        square = mask[:, None, :, None] * mask[:, None, None, :] == 1
        return x[np.broadcast_to(square, x.shape)]
    return x


KEY_BIASES = ("key.bias", "k_lin.bias")


def idle(case, names=()):
    """What no comparison of updates can hold for: all choices share one bias, and all keys one that
    adds the same to every score of a query. Such a gradient is nothing but rounding, which AdamW
    divides by its own size; how large it is depends on the processor and the threads of the BLAS.
    names: of all quantities, for the keys' biases among them."""
    shared = {"after.classifier.bias"} if case.task == "multiple-choice" else set()
    return shared | {n for n in names if n.startswith("after.") and n.endswith(KEY_BIASES)}


def check(case, size, reference, truth, params, batch, d):
    """The specification in float64 and both backends in float32 against PyTorch's numbers."""
    mask = batch["attention_mask"].reshape(-1, batch["attention_mask"].shape[-1])
    largest = max(rms(g) for g in gradients(truth).values())

    def ours(prepare, backend):
        model = model_of(case, size, backend=backend)
        model.update(params or {})
        model = prepare(model)
        found = numbers(model, batch, d) | after_training(model, batch, d)
        for name in set(reference) - set(found):
            assert (name, case.task) == ("loss", "feature-extraction")  # made up for PyTorch alone
        assert_padding_holds_zeros(found, mask)
        return {name: real(name, x, mask) for name, x in found.items()}

    reference, truth = (
        {name: real(name, x, mask) for name, x in them.items()} for them in (reference, truth)
    )
    for name, x in ours(exact, "numpy").items():
        if name in truth:
            scale = largest if name.startswith("grad.") else None
            assert_same_formula(name, x, truth[name], scale)
    for backend in BACKENDS:
        mine = ours(lambda model: model, backend)
        assert {x.dtype for name, x in mine.items() if name != "loss"} == {np.dtype(np.float32)}
        compare_gradients(gradients(mine), reference, truth)
        for name in set(reference) & set(mine) - set(gradients(mine)) - idle(case, mine):
            compare_array(name, mine[name], reference[name], truth[name])


@pytest.mark.parametrize("name", CASES)
def test_live(name):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    case = CASES[name]
    how = model_of(case), fields(case, LARGE), batch_of(case, pad=True), cotangents(case)
    theirs = (torch_numbers(*how, dtype) for dtype in ("float32", "float64"))
    check(case, LARGE, *theirs, None, *how[2:])


@pytest.mark.parametrize("name", STORED)
def test_stored(name):
    case = CASES[name]
    kinds = read(name)
    params, _ = unpack(kinds["weight"])
    check(case, SMALL, *unpack(kinds["out"]), params, kinds["in"], kinds.get("cotangent", {}))


@pytest.mark.parametrize("name", STORED)
def test_stored_numbers_are_few(name):
    assert (model_cases.GOLDEN / f"{name}.npz").stat().st_size < 60_000


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
