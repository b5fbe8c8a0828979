"""Small ViTs and DeiTs, and what transformers and DeiT's own loss make of them in PyTorch."""

import numpy as np
from model_cases import ADAMW, STEPS

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.model.vision.vision_encoder import CLASSES, IMAGES
from minidistil.model.vision.vision_model import VisionModel
from minidistil.train import AdamW

SIZE = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 20, "image_size": 6, "patch_size": 2, "num_channels": 2,
        "id2label": {str(k): f"kind {k}" for k in range(5)}}  # fmt: skip
SHALLOW = SIZE | {"num_hidden_layers": 1}
CASES = [("vit", "image-classification"), ("deit", "image-classification"),
         ("vit", "feature-extraction")]  # fmt: skip


def model_of(family, task, backend="cpu", size=SIZE):
    """A model no γ of which is 1 and no bias 0."""
    config = FAMILIES[family].from_dict(size)
    model = md.from_config(config, task, backend=backend)
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


def batch_of(B=5, size=SIZE):
    rng, side = np.random.default_rng(2), size["image_size"]
    pixels = rng.normal(size=(B, size["num_channels"], side, side)).astype(np.float32)
    return {"pixel_values": pixels, "labels": rng.integers(0, len(size["id2label"]), B)}


def cotangents(out):
    """What the outputs are differentiated along."""
    rng = np.random.default_rng(3)
    names = ("last_hidden_state", "pooler_output") if out.logits is None else ("logits",)
    given = {n: getattr(out, n) for n in names if getattr(out, n) is not None}
    return {f"d{n}": rng.normal(size=x.shape).astype(np.float32) for n, x in given.items()}


def numbers(model, d, size=SIZE):
    """Outputs, gradients along d, and the parameters after ten steps of AdamW."""
    pixels, found = batch_of(size=size)["pixel_values"], {}
    out = model.forward(pixels, hidden_states=True)
    for name in d:
        found[name[1:]] = getattr(out, name[1:])
    found |= {f"hidden_states.{i}": h for i, h in enumerate(out.hidden_states)}
    found |= {f"grad.{n}": g for n, g in model.backward(out, **d).items()}
    optimizer = AdamW(model.params, backend=model.ops.name, **ADAMW)
    for _ in range(STEPS):
        model.update(optimizer.step(model.backward(model.forward(pixels), **d)))
    return found | {f"after.{n}": p for n, p in model.params.items()}


def torch_model(folder, model, dtype):
    """transformers' model of the folder, which it loads without a key too few or too many, and its
    parameters under our names."""
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
    return theirs, {n: named[name_in_memory(n)] for n in model.params}


def torch_numbers(folder, model, d, dtype, size=SIZE):
    """The same as `numbers` from transformers."""
    import torch

    theirs, named = torch_model(folder, model, dtype)
    plain = [p for p in named.values() if p.ndim == 1]
    groups = [{"params": [p for p in named.values() if p.ndim > 1]},
              {"params": plain, "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, **ADAMW)
    pixels = torch.tensor(batch_of(size=size)["pixel_values"].astype(dtype))
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


# ---------------------------------------------------------------- a DeiT and its teacher

LESSONS = {
    "hard": {"alpha_hard": 0.5, "alpha_ce": 0.5, "hard_targets": True},
    "soft": {"alpha_hard": 0.9, "alpha_ce": 0.1, "temperature": 3.0, "convention": "deit"},
}


def lesson(kind):
    return md.DistillConfig(alpha_mlm=0.0, alpha_cos=0.0, **LESSONS[kind])


def pair():
    """A ViT that teaches, and a DeiT that learns, of another depth."""
    teacher, student = model_of("vit", IMAGES), model_of("deit", IMAGES, size=SHALLOW)
    teacher.update({n: 2 * p for n, p in teacher.params.items() if n.startswith("classifier")})
    return teacher, student


def taught(student, teacher, kind):
    """loss, its parts and every gradient of the student."""
    step = md.distill_step(student, teacher, batch_of(), lesson(kind))
    return {"loss": step.loss, **step.parts} | {f"grad.{n}": g for n, g in step.grads.items()}


def torch_taught(folders, models, kind, dtype):
    """The same as DeiT's own loss computes it: (1 − λ)·base + λ·distillation."""
    import torch
    from torch.nn import functional as F

    (teacher, _), (student, named) = (
        torch_model(f, m, dtype) for f, m in zip(folders, models, strict=True)
    )
    config, batch = lesson(kind), batch_of()
    pixels, labels = (torch.tensor(batch[n]) for n in ("pixel_values", "labels"))
    out, tau = student(pixels.to(getattr(torch, dtype))), config.temperature
    with torch.no_grad():
        t = teacher(pixels.to(getattr(torch, dtype))).logits
    base = F.cross_entropy(out.cls_logits, labels)
    z = out.distillation_logits
    if kind == "hard":
        told = F.cross_entropy(z, t.argmax(dim=1))
    else:
        log_s, log_t = (F.log_softmax(x / tau, dim=1) for x in (z, t))
        told = F.kl_div(log_s, log_t, reduction="sum", log_target=True) * tau**2 / z.numel()
    loss = config.alpha_hard * base + config.alpha_ce * told
    loss.backward()
    found = {"loss": loss, "hard": base, "ce": told} | {
        f"grad.{n}": p.grad for n, p in named.items()
    }
    return {n: x.detach().numpy() for n, x in found.items()}
