"""Pairs of a teacher and a student, and what the original distiller makes of them in PyTorch."""

import dataclasses

import soft_cases
from model_cases import CASES, LARGE, Case, batch_of, fields, model_of, torch_inputs, torch_model

from minidistil.distill import DistillConfig
from minidistil.distill.recipes import RECIPES

CONFIGS = {
    "default": {},
    "restricted": {"restrict_ce_to_mask": True},
    "mse": {"alpha_mse": 0.3},
    "mse-restricted": {"alpha_mse": 0.3, "restrict_ce_to_mask": True},
    "cold": {"temperature": 1.0},
    "hot": {"temperature": 7.5, "alpha_ce": 0.5},
    "ce": {"alpha_mlm": 0.0, "alpha_cos": 0.0},
    "mlm": {"alpha_ce": 0.0, "alpha_cos": 0.0},
    "cos": {"alpha_ce": 0.0, "alpha_mlm": 0.0},
    "cos-mse": {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_mse": 1.0},
}
NEXT = {  # a decoder's
    "recipe": RECIPES["distilgpt2"].options,
    "clm": {"alpha_clm": 1.0, "alpha_ce": 0.0, "alpha_cos": 0.0},
    "all": {"alpha_clm": 0.7, "alpha_mse": 0.3, "temperature": 3.0},
    "all-restricted": {"alpha_clm": 0.7, "alpha_mse": 0.3, "restrict_ce_to_mask": True},
    "cos": {"alpha_ce": 0.0},
}
FIELDS = {field.name for field in dataclasses.fields(DistillConfig)}
CONFIGS |= {f"next-{n}": {k: x for k, x in c.items() if k in FIELDS} for n, c in NEXT.items()}
BERT, STUDENT, WORDS = CASES["bert-mlm"], CASES["distilbert-mlm"], CASES["gpt2-words"]
CLASSES = Case("distilbert", "text-classification", {"labels": 3})
LABELS = {"extra": {"labels": 4}}
TARGETS = {  # what a classifier says of a text, its tokens, where an answer is, choices, numbers
    "classes": (CASES["bert-single"], CLASSES),
    "tokens": tuple(CASES[f"{f}-tokens"]._replace(**LABELS) for f in ("bert", "distilbert")),
    "spans": (CASES["bert-spans"], CASES["distilbert-spans"]),
    "choice": (CASES["bert-choice"], CASES["distilbert-choice"]),
}
NUMBERS = {  # no question of a softmax: compared as they are
    n: (CASES[f"distilbert-{n}"]._replace(family="bert"), CASES[f"distilbert-{n}"])
    for n in ("regression", "multi")
}
CONFIGS |= {name: {"alpha_mse": 0.5, "temperature": 3.0} for name in TARGETS}
CONFIGS |= {name: {"alpha_mse": 0.5, "alpha_ce": 0.0} for name in NUMBERS}
TEXTBREWER = {"temperature": 4.0, "alpha_mse": 0.5, "convention": "textbrewer"}
BY_ROW = {  # a temperature for each question: what is softened, and how
    "flsw": ("classes", {"temperature_by": "flsw:1:2"}),
    "cwsm": ("tokens", {"temperature_by": "cwsm:0.8"}),
}
CONFIGS |= {name: TEXTBREWER | rule for name, (_, rule) in BY_ROW.items()}
STORED = ("default", "mse-restricted", "next-all", *TARGETS, *NUMBERS, *BY_ROW)

POSITIONS = ("start_positions", "end_positions")


def everywhere(out, mask):
    """What each softmax runs over, labelled or not: a list of (questions, alternatives)."""
    if "start_logits" not in out:
        return [out.logits.flatten(0, -2)]
    return [out[f"{name}_logits"].masked_fill(~mask, -1e9) for name in ("start", "end")]


def questions(out, wanted, mask):
    """The same where soft targets are compared, and the logits row by row."""
    import torch

    if "start_logits" in out:
        rows = torch.stack([out.start_logits[mask], out.end_logits[mask]], -1)
        return everywhere(out, mask), rows
    if out.logits.ndim == 3:
        return [out.logits[wanted]], out.logits[wanted]
    return [out.logits], out.logits.reshape(-1, 1) if mask.ndim == 3 else out.logits


def cases_of(name):
    """The teacher and the student that a config is for."""
    usual = (WORDS, WORDS) if name.startswith("next") else (BERT, STUDENT)
    if name in BY_ROW:
        name = BY_ROW[name][0]
    return (TARGETS | NUMBERS).get(name, usual)


def pair(teacher=BERT, student=STUDENT, size=LARGE, backend="cpu"):
    """A teacher, a student with fewer layers and other weights, a batch with token types."""
    return (
        model_of(teacher, size, seed=1, backend=backend),
        model_of(student, size | {"L": 2}, seed=2, backend=backend),
        batch_of(teacher, size),
    )


def distiller(student, teacher, size, cases, batch, config, dtype):
    """The step of the original script, from its description.

    Returns {"loss", "part.NAME", "grad.NAME": array}.
    """
    import torch
    from torch import nn

    theirs = torch_model(teacher, fields(cases[0], size), dtype)
    mine = torch_model(student, fields(cases[1], size | {"L": 2}), dtype)
    inputs = torch_inputs(batch, dtype)
    labels = inputs.pop("labels", None)
    mask = inputs["attention_mask"].bool()
    positions = [inputs.pop(name) for name in POSITIONS if name in inputs]
    positions = [torch.where(x < mask.shape[1], x, -100) for x in positions]
    with torch.no_grad():
        t = theirs(**inputs, output_hidden_states=True)
    inputs.pop("token_type_ids", None)
    s = mine(**inputs, output_hidden_states=True)

    tau, parts, rule = config.temperature, {}, config.temperature_by

    def soft(q, p):
        if rule:
            return soft_cases.by_row(rule, q, p, tau)[1]
        return soft_cases.theirs(config.convention, q, p, tau)

    hard = {
        "regression": lambda q, y: nn.functional.mse_loss(q.flatten(), y),
        "multi_label_classification": lambda q, y: nn.BCEWithLogitsLoss()(q.flatten(), y),
    }.get(student.config.problem_type, nn.CrossEntropyLoss(ignore_index=-100))
    wanted = labels != -100 if config.restrict_ce_to_mask else mask
    if student.task == "text-generation":  # row t is asked for the word of column t + 1
        labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
        wanted = labels != -100 if config.restrict_ce_to_mask else mask
    asked, rows = zip(*(questions(x, wanted, mask) for x in (s, t)), strict=True)
    softs = [soft(q, p) for q, p in zip(*asked, strict=True)]
    parts["ce"] = sum(softs) / len(softs)
    if labels is not None or positions:
        kind = {"fill-mask": "mlm", "text-generation": "clm"}.get(student.task, "hard")
        right = positions or [labels.flatten()]
        losses = [hard(q, y) for q, y in zip(everywhere(s, mask), right, strict=True)]
        parts[kind] = sum(losses) / len(losses)
    parts["mse"] = nn.MSELoss(reduction="sum")(*rows) / len(rows[0])
    mask = mask.flatten(0, -2)
    h_s, h_t = s.hidden_states[-1][mask], t.hidden_states[-1][mask]
    parts["cos"] = nn.CosineEmbeddingLoss()(h_s, h_t, torch.ones(len(h_s), dtype=h_s.dtype))
    return weighted(parts, config, mine)


def weighted(parts, config, student):
    """{part: tensor}  ->  {"loss", "part.NAME", "grad.NAME": array} of the parts' weighted sum."""
    alphas = {name: getattr(config, f"alpha_{name}") for name in parts}
    loss = sum(alphas[name] * part for name, part in parts.items() if alphas[name])
    loss.backward()
    numbers = {"loss": loss} | {f"part.{n}": part for n, part in parts.items() if alphas[n]}
    grads = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    numbers |= {f"grad.{n}": g for n, g in grads.items()}
    return {name: x.detach().numpy() for name, x in numbers.items()}


def stopped_at(objective, stop):
    """The objective's gradients raise RuntimeError at this step of a run."""
    step = objective.gradients

    def gradients(batch, **place):
        if place["step"] == stop:
            raise RuntimeError
        return step(batch, **place)

    objective.gradients = gradients
