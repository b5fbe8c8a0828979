"""What the objectives on the inside of two models are compared on, and what PyTorch makes of them.

The formulas are the originals', one after another on purpose: they are what the terms of
`minidistil.distill.objectives` have to be equal to, with every gradient that they send into the
student.
"""

import numpy as np
from model_cases import torch_inputs, torch_model

import minidistil as md
from minidistil.distill.objectives import (
    AttentionLoss,
    FeatureMapTransfer,
    HiddenMSE,
    PatientMSE,
    Projected,
    RelationLoss,
)

QUIET = {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_cos": 0.0, "alpha_hard": 0.0}
SIZE = {"vocab_size": 19, "max_position_embeddings": 9, "hidden_act": "gelu"}
TERMS = {
    "hidden": HiddenMSE(0.7),
    "hidden-each": HiddenMSE(0.7, projection="each", embeddings=False),
    "scores": AttentionLoss("scores", 0.3),
    "scores-padded": AttentionLoss("scores", 0.3, padded=True),
    "probs": AttentionLoss("probs", 2.0),
    "ce": AttentionLoss("ce"),
    "ce-mean": AttentionLoss("ce", mean=True),
    "kl": AttentionLoss("kl", layers=((1, 2), (2, 4))),
    "minilm-v1": RelationLoss(("qk", "vv")),
    "minilm-v2": RelationLoss(heads=4),
}
ALIKE = {  # those that want both of one width
    "patient": PatientMSE(5.0, layers="uniform"),
    "patient-plain": PatientMSE(5.0, normalised=False, mean=False),
    "feature-maps": FeatureMapTransfer(layers="uniform"),
}
EVERY = TERMS | ALIKE
B, T, HEADS = 3, 7, 2


def pair(C=8, teacher_C=12, ops=None):
    """A student of two layers and a teacher of four, away from special values."""
    ops = ops or md.backend("numpy", "float64")
    models = []
    for seed, (L, width) in enumerate(((2, C), (4, teacher_C))):
        config = md.BertConfig(
            hidden_size=width, num_hidden_layers=L, num_attention_heads=HEADS,
            intermediate_size=10, **SIZE,
        )  # fmt: skip
        model = md.from_config(config, seed=seed)
        rng = np.random.default_rng(seed)
        model.update({n: p + rng.normal(0, 0.3, p.shape) for n, p in model.params.items()})
        models.append(model.with_ops(ops))
    return models


def width_of(name):
    """The teacher's channels."""
    return 8 if name in ALIKE else 12


def prepared(name, ops=None, given=None):
    """The student with what its term learns, the teacher, the config.

    given: (student's, teacher's, learnt) parameters instead of drawn ones.
    """
    student, teacher = pair(teacher_C=width_of(name), ops=ops)
    config = md.DistillConfig(**QUIET, terms=(EVERY[name],))
    if given is not None:
        student.update(given[0])
        teacher.update(given[1])
    both = Projected(student, teacher, config.terms)
    rng = np.random.default_rng(3)
    drawn = {n: rng.normal(0, 0.3, p.shape).astype(np.float32) for n, p in both.learned.items()}
    both.update(drawn if given is None else given[2])
    return both, teacher, config


def batch():
    """Three texts, one with padding, one with a hole in its mask."""
    rng = np.random.default_rng(5)
    ids, mask = rng.integers(1, 19, (B, T)), np.ones((B, T), np.int64)
    mask[1, 4:] = mask[2, 2:4] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask == 1, ids, -100)}


# ---------------------------------------------------------------- what PyTorch says


class Shown:
    """Hidden states (B,T,C) of a PyTorch model, and {"layer.0.q": (B,T,C)} of every layer."""

    def __init__(self, model, inputs):
        self.taps = {}
        for i, layer in enumerate(model.bert.encoder.layer):
            for name in ("query", "key", "value"):
                module = getattr(layer.attention.self, name)
                module.register_forward_hook(self.keep(f"layer.{i}.{name[0]}"))
        self.hidden = model(**inputs, output_hidden_states=True).hidden_states

    def keep(self, name):
        def hook(module, given, result):
            self.taps[name] = result

        return hook

    def squares(self, layer, x, y, heads, mask):
        """x·yᵀ/√D of a layer, counted from 1: for each text, without its padding, (heads,t,t)."""
        found = []
        for b in range(B):
            q, k = (self.taps[f"layer.{layer - 1}.{z}"][b][mask[b]] for z in (x, y))
            q, k = (z.unflatten(1, (heads, -1)).transpose(0, 1) for z in (q, k))
            found.append(q @ k.mT / q.shape[2] ** 0.5)
        return found


def hidden(term, s, t, mask, learned):
    """TinyBERT, eq. 8 and 9: one projection for all layers, as coded, or one for each."""
    from torch.nn.functional import mse_loss

    loss = 0
    for i, j in ((0, 0), (1, 2), (2, 4)) if term.embeddings else ((1, 2), (2, 4)):
        name = "terms.0.project" + ("" if term.projection == "shared" else f".{i}")
        projected = s.hidden[i] @ learned[f"{name}.weight"].T + learned[f"{name}.bias"]
        loss = loss + mse_loss(projected[mask], t.hidden[j][mask])
    return loss


def attention(term, s, t, mask, learned):
    """TinyBERT, eq. 7, on scores and on shares; MiniLM, eq. 6, and its cross entropy."""
    from torch.nn.functional import kl_div

    distance = {
        "scores": lambda a, b: ((a - b) ** 2).sum(),
        "probs": lambda a, b: ((a.softmax(2) - b.softmax(2)) ** 2).sum(),
        "ce": lambda a, b: -(b.softmax(2) * a.log_softmax(2)).sum(),
        "kl": lambda a, b: kl_div(a.log_softmax(2), b.softmax(2), reduction="sum"),
    }[term.measure]
    loss = 0
    for i, j in ((1, 2), (2, 4)):
        mine, theirs = s.squares(i, "q", "k", HEADS, mask), t.squares(j, "q", "k", HEADS, mask)
        rows = sum(HEADS * x.shape[1] for x in mine)
        count = rows if term.measure in ("ce", "kl") else sum(x.numel() for x in mine)
        count = HEADS * B * T * T if term.padded else count
        loss = loss + sum(distance(a, b) for a, b in zip(mine, theirs, strict=True)) / count
    return loss / (2 if term.mean else 1)


def relations(term, s, t, mask, learned):
    """MiniLM, eq. 6 and 10; MiniLMv2, eq. 4, its mean as the open implementation has it."""
    from torch.nn.functional import kl_div

    loss, heads = 0, term.heads or HEADS
    for x, y in term.pairs:
        texts = zip(s.squares(2, x, y, heads, mask), t.squares(4, x, y, heads, mask), strict=True)
        for a, b in texts:
            kl = kl_div(a.log_softmax(2), b.softmax(2), reduction="sum")
            loss = loss + kl / (heads * a.shape[1]) / B
    return loss


def patient(term, s, t, mask, learned):
    """Patient distillation, eq. 7, and the plain variant of its code."""
    from torch.nn.functional import mse_loss, normalize

    unit = (lambda z: normalize(z, dim=1)) if term.normalised else (lambda z: z)
    pairs = ((1, 2), (2, 4)) if term.layers == "uniform" else ((1, 2),)
    losses = [mse_loss(unit(s.hidden[i][:, 0]), unit(t.hidden[j][:, 0])) for i, j in pairs]
    return sum(losses) / (len(pairs) if term.mean else 1)


def feature_maps(term, s, t, mask, learned):
    """MobileBERT's three, with the weights of its code."""
    from torch.nn.functional import l1_loss, layer_norm, mse_loss

    loss = 0
    for i, j in ((1, 2), (2, 4)):
        a, b = s.hidden[i][mask], t.hidden[j][mask]
        na, nb = (layer_norm(z, z.shape[1:], eps=1e-12) for z in (a, b))
        loss = loss + mse_loss(na, nb) + 50 * mse_loss(a.mean(1), b.mean(1))
        loss = loss + 0.05 * l1_loss(a.var(1, unbiased=False), b.var(1, unbiased=False))
    return loss / 2


FORMULAS = {HiddenMSE: hidden, AttentionLoss: attention, RelationLoss: relations,
            PatientMSE: patient, FeatureMapTransfer: feature_maps}  # fmt: skip


def torch_numbers(student, teacher, config, dtype):
    """{"loss", "grad.NAME": array}: the term with its weight, all that it sends to the student."""
    import torch

    (term,) = config.terms
    given = torch_inputs({n: x for n, x in batch().items() if n != "labels"}, dtype)
    mine, theirs = (torch_model(m, m.config.to_dict(), dtype) for m in (student.student, teacher))
    learned = {
        n: torch.tensor(np.array(p), dtype=getattr(torch, dtype), requires_grad=True)
        for n, p in student.learned.items()
    }
    with torch.no_grad():
        t = Shown(theirs, given)
    mask = given["attention_mask"].bool()
    loss = term.weight * FORMULAS[type(term)](term, Shown(mine, given), t, mask, learned)
    loss.backward()
    grads = {n: p.grad for n, p in (*mine.named_parameters(), *learned.items())}
    numbers = {"loss": loss} | {f"grad.{n}": g for n, g in grads.items() if g is not None}
    return {name: x.detach().numpy() for name, x in numbers.items()}
