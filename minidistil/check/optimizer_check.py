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
from minidistil.check.mistakes.in_optimizer import SPARED
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
    roles = {role_of(name) for name in given}
    fixed = _fixed(roles, optimizer, scheduled)
    settings = _settings(fixed, roles, optimizer, named)
    mine = []
    for grads in gradients:
        for name, p in named.items():
            p.grad = torch.tensor(grads[name])
        update()
        mine.append({name: p.detach().numpy().copy() for name, p in named.items()})
    report = _judge(mine, start, gradients, settings, make)
    report.unmatched += [
        what for key, what in (("max_grad_norm", "clipping, as make takes no max_grad_norm"),
                               ("warmup", "the schedule, as make takes no warmup_steps"))
        if key not in fixed
    ]  # fmt: skip
    return report


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


def _settings(fixed, roles, optimizer, named):
    """{parameter: its hyperparameters}: those of its group where make takes none by name. A group
    without decay has that of the others: which parameters decay is what is compared."""
    settings = dict.fromkeys(named, fixed)
    names = {id(p): name for name, p in named.items()}
    for group in getattr(optimizer, "param_groups", []):
        own = {k: group[k] for k in ("betas", "eps") if k not in roles and k in group}
        if "lr" not in roles:
            own["lr"] = group.get("initial_lr", group["lr"])
        if "weight_decay" not in roles and group.get("weight_decay"):
            own["weight_decay"] = group["weight_decay"]
        for p in group["params"]:
            if id(p) in names:
                settings[names[id(p)]] = fixed | own
    return settings


def _stepped(function, start, gradients, settings):
    """The parameters after the steps, each with its own hyperparameters."""
    runs = []
    for name in start:
        if settings[name] not in [fixed for fixed, _ in runs]:
            runs.append((settings[name], function(start, gradients, **settings[name])))
    return {name: next(p for f, p in runs if f == settings[name])[name] for name in start}


def _judge(mine, start, gradients, settings, make):
    report = Report("agree")
    last = _stepped(steps, start, gradients, settings)
    moved = rms(_flat(last) - _flat(start))
    for t, params in enumerate(mine):
        truth = _stepped(steps, start, gradients[: t + 1], settings)
        error = rms(_flat(params) - _flat(truth)) / moved
        row = Row(f"step.{t + 1}", "step", error, CLOSE, bool(error <= CLOSE), line_of(make))
        report.rows.append(row)
        if not row.agrees and report.verdict == "agree":
            report.verdict, report.first_difference = "differ", row.name
            report.where = row.where
            off = {n: rms(params[n] - truth[n]) for n in params}
            report.evidence = f"{max(off, key=off.get)} differs most, {error:.1e} of the update"
    if report.verdict == "differ":
        report.diagnosis = _named(mine[-1], start, gradients, settings, moved, report.where)
    return report


def _named(mine, start, gradients, settings, moved, where):
    """[Diagnosis] of the mistake, or of the few mistakes, that give the parameters."""
    for also, changed, decaying in _bases(settings):
        first, then = (
            {n: x.reshape(shape) for n, x, shape in _reshaped(arrays, decaying)}
            for arrays in (start, gradients[0])
        )
        grads = [{n: g[n].reshape(then[n].shape) for n in g} for g in gradients]
        forms = [(None, None, steps)] if also else []
        forms += [(m, v, f) for m in mistakes_of("steps") for v, f in m.forms()]
        for m, value, wrong in forms:
            try:
                params = _stepped(wrong, first, grads, changed)
            except TypeError:
                continue
            flat = {name: p.reshape(start[name].shape) for name, p in params.items()}
            error = rms(_flat(mine) - _flat(flat)) / moved
            if error <= CLOSE:
                found = [*also, *([(m, value)] if m is not None else [])]
                both = " together" * (len(found) > 1)
                evidence = f"with it{both} the parameters after {STEPS} steps agree to {error:.0e}"
                return [Diagnosis(k.id, k.message(v), where, evidence) for k, v in found]
    return []


def _reshaped(arrays, decaying):
    """(name, array, shape): a parameter that decays has two axes, another one has one."""
    for name, x in arrays.items():
        two = x.shape if x.ndim > 1 else (1, *x.shape)
        yield name, x, two if decaying(name, x) else (x.size,)


def _bases(settings):
    """(mistakes that are taken for given, the hyperparameters with them, which parameters decay):
    none; then decay on everything, no clipping, no warm-up, and two of these."""
    by_id = {m.id: m for m in mistakes_of("steps")}
    scope = by_id["decay-on-layernorm"]
    scopes = [([], lambda name, x: x.ndim > 1)]
    scopes += [
        ([(scope, value)], lambda name, x, some=some: not any(part in name for part in some))
        for value, some in SPARED.items()
    ]
    for also, decaying in scopes:
        yield also, settings, decaying
    for key, id in (("max_grad_norm", "clip-missing"), ("warmup", "warmup-missing")):
        if all(key in fixed for fixed in settings.values()):
            left = {n: {k: v for k, v in f.items() if k != key} for n, f in settings.items()}
            for also, decaying in scopes:
                yield [*also, (by_id[id], None)], left, decaying


def _flat(params):
    return np.concatenate([params[name].ravel() for name in sorted(params)])
