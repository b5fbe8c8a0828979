"""The op that computes a quantity, with its inputs by name: what generic searches vary."""

import copy
from typing import NamedTuple

import numpy as np

from minidistil.check.program import stage_of


class Step(NamedTuple):
    """One call of a reference op on right inputs."""

    op: str
    function: object
    args: tuple
    fixed: dict
    names: tuple  # of each argument; None for what is no quantity and no parameter


def step_of(reference, quantity):
    """The Step whose result is a quantity; None for what several ops compute."""
    program, calls = copy.copy(reference.program), []

    def spying(op, function):
        def spied(*args, **fixed):
            result = function(*args, **fixed)
            calls.append((op, function, args, fixed, result))
            return result

        return spied

    program.right = {op: spying(op, f) for op, f in program.right.items()}
    stages = list(program.stages)
    stage = stages.index(stage_of(quantity))
    values = program.run(stop=stage + 1)
    for op, function, args, fixed, result in reversed(calls):
        if any(
            part is values[quantity] for part in (result if isinstance(result, tuple) else [result])
        ):
            known = {id(x): n for n, x in values.items() if n is not None}
            known |= {id(x): n for n, x in program.p.items()}
            names = tuple(known.get(id(x)) for x in args)
            return Step(op, function, args, fixed, names)
    return None


def replaced(reference, step):
    """(what is replaced, result) with one input, or a weight and its bias, taken from elsewhere.

    The candidates are all parameters and all quantities of the shape.
    """
    p, values = reference.program.p, reference.values
    for i, (arg, name) in enumerate(zip(step.args, step.names, strict=True)):
        if not isinstance(arg, np.ndarray):
            continue
        for other, x in (p if name in p else values).items():
            if other != name and x.shape == arg.shape and x is not arg:
                yield (name or "the input", other), _with(step, {i: x})
    pairs = [(i, n) for i, n in enumerate(step.names) if n in p]
    if len(pairs) == 2 and all(n.endswith((".weight", ".bias")) for _, n in pairs):
        site = pairs[0][1].rpartition(".")[0]
        for other in {n.rpartition(".")[0] for n in p} - {site}:
            mine = [p.get(f"{other}.{n.rpartition('.')[2]}") for _, n in pairs]
            if all(x is not None and x.shape == step.args[i].shape
                   for x, (i, _) in zip(mine, pairs, strict=True)):  # fmt: skip
                yield (
                    (site, other),
                    _with(step, {i: x for x, (i, _) in zip(mine, pairs, strict=True)}),
                )


def _with(step, changes):
    args = [changes.get(i, x) for i, x in enumerate(step.args)]
    return step.function(*args, **step.fixed)


def terms(reference, step):
    """[(name, array)]: a quantity as a sum of terms, whose factors a wrong one may have changed."""
    if step.op == "residual":
        x, f = step.args[:2]
        return [("x", x), ("f(x)", f)]
    if step.op in ("linear", "projection"):
        x, weight, bias = step.args
        return [("x·Wᵀ", x @ weight.T), ("b", np.broadcast_to(bias, (*x.shape[:-1], len(bias))))]
    if step.op == "layernorm":
        x, gamma, beta = step.args
        unit = step.function(x, np.ones_like(gamma), np.zeros_like(beta), **step.fixed)
        return [("γ·x̂", gamma * unit), ("β", np.broadcast_to(beta, x.shape)), ("x̂", unit), ("x", x)]
    if step.op == "embedding_sum":
        word, position, *rest = step.args
        ids, first = step.fixed["ids"], step.fixed["first"]
        columns = np.arange(first, first + ids.shape[1])
        found = [("word[id]", word[ids]), ("position[column]", np.broadcast_to(
            position[columns], (*ids.shape, word.shape[1])))]  # fmt: skip
        if rest and rest[0] is not None:
            found.append(("type[type]", rest[0][step.fixed["types"]]))
        return found
    return []
