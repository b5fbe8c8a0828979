"""ViT and DeiT: transformers' numbers, and a backward that is the forward's transpose."""

import numpy as np
import pytest
from model_cases import ADAMW, STEPS, assert_same_formula, compare_array, compare_gradients

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.model.vision_model import CLASSES, VisionModel
from minidistil.testing import rms
from minidistil.train import AdamW

SIZE = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 20, "image_size": 6, "patch_size": 2, "num_channels": 2,
        "id2label": {str(k): f"kind {k}" for k in range(5)}}  # fmt: skip
CASES = [("vit", "image-classification"), ("deit", "image-classification"),
         ("vit", "feature-extraction")]  # fmt: skip


def model_of(family, task, backend="cpu"):
    """A model no γ of which is 1 and no bias 0."""
    model = md.from_config(FAMILIES[family].from_dict(SIZE), task, backend=backend)
    rng = np.random.default_rng(1)
    model.update({n: p + rng.normal(0, 0.2, p.shape) for n, p in model.params.items()})
    return model


class Exact(VisionModel):
    """A model whose parameters, too, are float64."""

    def update(self, arrays):
        self._params.update({n: np.asarray(x, np.float64) for n, x in arrays.items()})
        self._canonical = None


def exact(model):
    return Exact(model.config, model.task, dict(model.params), md.backend("numpy", "float64"))


def batch_of(B=5):
    rng = np.random.default_rng(2)
    return {"pixel_values": rng.normal(size=(B, 2, 6, 6)).astype(np.float32),
            "labels": rng.integers(0, 5, B)}  # fmt: skip


def cotangents(out):
    """What the outputs are differentiated along."""
    rng = np.random.default_rng(3)
    names = ("last_hidden_state", "pooler_output") if out.logits is None else ("logits",)
    given = {n: getattr(out, n) for n in names if getattr(out, n) is not None}
    return {f"d{n}": rng.normal(size=x.shape).astype(np.float32) for n, x in given.items()}


def numbers(model, d):
    """Outputs, gradients along d, and the parameters after ten steps of AdamW."""
    pixels, found = batch_of()["pixel_values"], {}
    out = model.forward(pixels, hidden_states=True)
    for name in d:
        found[name[1:]] = getattr(out, name[1:])
    found |= {f"hidden_states.{i}": h for i, h in enumerate(out.hidden_states)}
    found |= {f"grad.{n}": g for n, g in model.backward(out, **d).items()}
    optimizer = AdamW(model.params, backend=model.ops.name, **ADAMW)
    for _ in range(STEPS):
        model.update(optimizer.step(model.backward(model.forward(pixels), **d)))
    return found | {f"after.{n}": p for n, p in model.params.items()}


def torch_numbers(folder, model, d, dtype):
    """The same from transformers, which loads the folder without a key too few or too many."""
    import torch
    import transformers

    kind = getattr(transformers, CLASSES[model.config.model_type, model.task])
    theirs, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    theirs = theirs.to(getattr(torch, dtype)).eval()
    renamed = (("encoder.layer.", "layers."), ("attention.attention.query", "attention.q_proj"),
               ("attention.attention.key", "attention.k_proj"), ("output.dense", "mlp.fc2"),
               ("attention.attention.value", "attention.v_proj"),
               ("intermediate.dense", "mlp.fc1"))  # fmt: skip

    def name_in_memory(name):
        name = name.replace("attention.output.dense", "attention.o_proj")
        for old, new in renamed:
            name = name.replace(old, new)
        return name

    named = dict(theirs.named_parameters())
    named = {n: named[name_in_memory(n)] for n in model.params}
    plain = [p for p in named.values() if p.ndim == 1]
    groups = [{"params": [p for p in named.values() if p.ndim > 1]},
              {"params": plain, "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, **ADAMW)
    pixels = torch.tensor(batch_of()["pixel_values"].astype(dtype))
    found = {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = theirs(pixels, output_hidden_states=True)
        sum((out[n[1:]] * torch.tensor(x.astype(dtype))).sum() for n, x in d.items()).backward()
        if not found:
            found = {n[1:]: out[n[1:]] for n in d}
            found |= {f"hidden_states.{i}": h for i, h in enumerate(out.hidden_states)}
            found |= {f"grad.{n}": p.grad for n, p in named.items()}
            found = {n: x.detach().numpy().copy() for n, x in found.items()}
        optimizer.step()
    return found | {f"after.{n}": p.detach().numpy().copy() for n, p in named.items()}


@pytest.mark.parametrize(("family", "task"), CASES)
def test_live(family, task, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = model_of(family, task)
    model.save_pretrained(tmp_path)
    d = cotangents(model.forward(batch_of()["pixel_values"]))
    reference, truth = (torch_numbers(tmp_path, model, d, t) for t in ("float32", "float64"))
    largest = max(rms(x) for n, x in truth.items() if n.startswith("grad."))
    for name, x in numbers(exact(model), d).items():
        assert_same_formula(name, x, truth[name], largest if name.startswith("grad.") else None)
    for backend in ("numpy", "cpu"):
        mine = numbers(md.from_pretrained(tmp_path, backend=backend), d)
        grads = [{n: x for n, x in them.items() if n.startswith("grad.")}
                 for them in (mine, reference, truth)]  # fmt: skip
        compare_gradients(*grads)
        for name in set(mine) - set(grads[0]):
            compare_array(name, mine[name], reference[name], truth[name])


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("dropped", [False, True])
def test_backward_of_the_loss(family, dropped):
    model, batch, eps = exact(model_of(family, "image-classification")), batch_of(), 1e-6
    rng = np.random.default_rng(4)
    v = {n: rng.normal(size=p.shape) for n, p in model.params.items()}
    start = {n: p.copy() for n, p in model.params.items()}
    if dropped:
        fields = SIZE | {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
        model.config = FAMILIES[family].from_dict(fields)
    how = {"train": dropped, "seed": 5, "step": 7}

    def loss(sign):
        model.update({n: p + sign * eps * v[n] for n, p in start.items()})
        return model.forward(**batch, **how).loss

    numeric = (loss(1) - loss(-1)) / (2 * eps)
    model.update(start)
    grads = model.gradients(batch, **how).grads
    assert sum(np.vdot(g, v[n]) for n, g in grads.items()) == pytest.approx(numeric, rel=1e-6)


def test_a_body_without_a_pooler_loads_and_one_short_of_a_parameter_does_not(tmp_path):
    model = model_of("vit", "image-classification")
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning) as said:
        body = md.from_pretrained(tmp_path, task="feature-extraction")
    assert "pooler.dense" in "".join(str(w.message) for w in said)
    pixels = batch_of()["pixel_values"]
    assert np.array_equal(
        body.forward(pixels).last_hidden_state, model.forward(pixels).last_hidden_state
    )
    with pytest.raises(ValueError, match="pixel_values must be"):
        model.forward(pixels[:, :1])
    with pytest.raises(ValueError, match="does not split into patches"):
        FAMILIES["vit"].from_dict(SIZE | {"image_size": 7})
