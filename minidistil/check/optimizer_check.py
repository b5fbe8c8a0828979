"""Comparison of a user's optimiser with the reference: ten steps on the same gradients.

make(...) takes a module (`model`, `module`) or its parameters, and by name lr, betas, eps,
weight_decay, max_grad_norm, warmup_steps and total_steps. It returns a torch optimiser, a pair of
optimiser and scheduler, or a function that performs everything after `loss.backward()`.
"""

from collections.abc import Callable

import numpy as np

from minidistil.check.call_by_name import arguments
from minidistil.check.findings import Diagnosis, Report, Row
from minidistil.check.loss_check import line_of
from minidistil.check.mistakes import mistakes_of
from minidistil.check.reference_steps import steps
from minidistil.testing import rms

STEPS, CLOSE = 10, 1e-6
HYPER = {"lr": 0.02, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1,
         "max_grad_norm": 3.0, "warmup": 4, "total": 20}  # fmt: skip
# The parameters of a small model; one LayerNorm is not named LayerNorm, as in DistilBERT.
SHAPES = {
    "embeddings.weight": (7, 4), "LayerNorm.weight": (4,), "LayerNorm.bias": (4,),
    "lin1.weight": (5, 4), "lin1.bias": (5,), "output_layer_norm.weight": (5,),
    "output_layer_norm.bias": (5,),
}  # fmt: skip


def role_of(name):
    """The role of an argument of make, by its name; None for an unknown one."""
    lower = name.lower()
    for role, words in (
        ("warmup", ("warm",)), ("total", ("total", "num_training", "max_steps", "num_steps")),
        ("max_grad_norm", ("norm", "clip")), ("weight_decay", ("decay", "wd")),
        ("betas", ("beta",)), ("eps", ("eps",)), ("lr", ("lr", "learning")),
        ("named", ("named",)), ("params", ("param",)), ("module", ("model", "module", "net")),
    ):  # fmt: skip
        if any(word in lower for word in words):
            return role
    return None


def compare_optimizer(make: Callable, seed: int = 0) -> Report:
    """Compare ten steps of an optimiser with the reference  ->  Report.

    Raises ValueError for an unknown argument of make and for an unknown return value.
    """
    import torch

    rng = np.random.default_rng(seed)
    start = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    gradients = [
        {name: rng.normal(size=p.shape) * (2.0 if t % 3 else 0.1) for name, p in start.items()}
        for t in range(STEPS)
    ]
    module = _module(start)
    named = dict(module.named_parameters())
    offers = {
        "module": module, "params": list(named.values()), "named": list(named.items()), **HYPER
    }  # fmt: skip
    given = arguments(make, offers, role_of)
    try:
        made = make(**given)
    except Exception as error:
        raise ValueError(f"the optimiser fails: {type(error).__name__}: {error}") from error
    update, optimizer, scheduled = _update(made)
    fixed = _fixed({role_of(name) for name in given}, optimizer, scheduled)
    mine = []
    for grads in gradients:
        for name, p in named.items():
            p.grad = torch.tensor(grads[name])
        update()
        mine.append({name: p.detach().numpy().copy() for name, p in named.items()})
    return _judge(mine, start, gradients, fixed, make)


def _module(start):
    """A torch module with the parameters of SHAPES."""
    import torch
    from torch import nn

    module = nn.Module()
    module.embeddings, module.lin1 = nn.Embedding(7, 4), nn.Linear(4, 5)
    module.LayerNorm, module.output_layer_norm = nn.LayerNorm(4), nn.LayerNorm(5)
    module.double()
    for name, p in module.named_parameters():
        p.data = torch.tensor(start[name])
    return module


def _update(made):
    """(the function that performs a step, the optimiser or None, whether there is a schedule)."""
    import torch

    optimizer, *rest = made if isinstance(made, tuple | list) else (made,)
    if isinstance(optimizer, torch.optim.Optimizer) or hasattr(optimizer, "step"):

        def update():
            optimizer.step()
            for scheduler in rest:
                scheduler.step()
            if hasattr(optimizer, "zero_grad"):
                optimizer.zero_grad()

        return update, optimizer, bool(rest)
    if callable(optimizer):
        return optimizer, None, True
    raise ValueError(
        f"make must return an optimiser, (optimiser, scheduler) or a function, not {made!r}"
    )


def _fixed(roles, optimizer, scheduled):
    """The hyperparameters of the reference: those that make took, else those of its optimiser."""
    fixed = {k: HYPER[k] for k in ("lr", "betas", "eps", "weight_decay") if k in roles}
    for name in ("lr", "betas", "eps", "weight_decay"):
        groups = getattr(optimizer, "param_groups", [])
        own = [g.get("initial_lr", g["lr"]) if name == "lr" else g.get(name) for g in groups]
        own = [x for x in own if x is not None]
        if name not in fixed and own:
            fixed[name] = max(own)
    if "max_grad_norm" in roles:
        fixed["max_grad_norm"] = HYPER["max_grad_norm"]
    if scheduled and "warmup" in roles:
        if "total" not in roles:
            raise ValueError("a schedule needs both: warmup_steps and total_steps")
        fixed |= {"warmup": HYPER["warmup"], "total": HYPER["total"]}
    return fixed


def _judge(mine, start, gradients, fixed, make):
    report, last = Report("agree"), steps(start, gradients, **fixed)
    moved = rms(_flat(last) - _flat(start))
    for t, params in enumerate(mine):
        truth = steps(start, gradients[: t + 1], **fixed)
        error = rms(_flat(params) - _flat(truth)) / moved
        row = Row(f"step.{t + 1}", "step", error, CLOSE, bool(error <= CLOSE), line_of(make))
        report.rows.append(row)
        if not row.agrees and report.verdict == "agree":
            report.verdict, report.first_difference = "differ", row.name
            report.where = row.where
            off = {n: rms(params[n] - truth[n]) for n in params}
            report.evidence = f"{max(off, key=off.get)} differs most, {error:.1e} of the update"
    if report.verdict == "differ":
        report.diagnosis = _named(mine[-1], start, gradients, fixed, moved, report.where)
    return report


def _named(mine, start, gradients, fixed, moved, where):
    for m in mistakes_of("steps"):
        for value, wrong in m.forms():
            params = wrong(start, gradients, **fixed)
            error = rms(_flat(mine) - _flat(params)) / moved
            if error <= CLOSE:
                evidence = f"with it the parameters after {STEPS} steps agree to {error:.0e}"
                return [Diagnosis(m.id, m.message(value), where, evidence)]
    return []


def _flat(params):
    return np.concatenate([params[name].ravel() for name in sorted(params)])
