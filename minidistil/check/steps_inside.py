"""The op that computes a quantity, with its inputs by name: what generic searches vary."""

import copy
from typing import NamedTuple

import numpy as np

from minidistil.check.program import stage_of
from minidistil.check.reference_ops import layernorm, linear


class OpCall(NamedTuple):
    """One call of a reference op on right inputs."""

    op: str
    function: object
    args: tuple
    fixed: dict
    names: tuple  # of each argument; None for what is no quantity and no parameter
    number: int  # among the calls of its stage


def _calls(reference, quantity, change=lambda number, result: result):
    """(calls of a quantity's stage and the next, with their results; their values)."""
    program, calls = copy.copy(reference.program), []

    def spying(op, function):
        def spied(*args, **fixed):
            result = change(len(calls), function(*args, **fixed))
            calls.append((op, function, args, fixed, result))
            return result

        return spied

    stage = list(program.stages).index(stage_of(quantity))
    x = program.run(stop=stage)[None] if stage else None
    program.right = {op: spying(op, f) for op, f in program.right.items()}
    return calls, program.run(start=stage, x=x, stop=min(stage + 2, len(program.stages)))


def call_of(reference, quantity):
    """The OpCall whose result is a quantity; None for what several ops compute."""
    calls, values = _calls(reference, quantity)
    known = {id(x): n for n, x in values.items() if n is not None}
    known |= {id(x): n for n, x in reference.program.p.items()}
    for number, (op, function, args, fixed, result) in enumerate(calls):
        results = result if isinstance(result, tuple) else (result,)
        if op != "context_of" and any(x is values[quantity] for x in results):
            names = tuple(known.get(id(x)) for x in args)
            return OpCall(op, function, args, fixed, names, number)
    return None


def followed(reference, quantity, call, view):
    """{later quantity of the stage: its value} where an array stands in a quantity's place."""
    with np.errstate(all="ignore"):
        _, values = _calls(
            reference, quantity, lambda number, result: view if number == call.number else result
        )
    names = [n for n in values if n is not None]
    later = names[names.index(quantity) + 1 :]
    right = reference.values
    return {n: values[n] for n in later if not np.array_equal(values[n], right[n])}


def replaced(reference, step):
    """(what is replaced, result) with one input, or a weight and its bias, taken from elsewhere.

    The candidates are all parameters and all quantities of the shape.
    """
    p, values = reference.program.p, reference.values
    for i, (arg, name) in enumerate(zip(step.args, step.names, strict=True)):
        if not isinstance(arg, np.ndarray):
            continue
        for other, x in (p if name in p else values).items():
            if other != name and x is not arg and _fits(x, arg, step.op):
                yield (name or "the input", other), _with(step, {i: x})
    pairs = [(i, n) for i, n in enumerate(step.names) if n in p]
    if len(pairs) != 2:
        return
    site = pairs[0][1].rpartition(".")[0]
    for other in sorted({n.rpartition(".")[0] for n in p} - {site}):
        both = {i: p.get(f"{other}.{n.rpartition('.')[2]}") for i, n in pairs}
        if all(x is not None and x.shape == step.args[i].shape for i, x in both.items()):
            yield (site, other), _with(step, both)


def _fits(x, arg, op):
    """Whether an array can stand in an argument's place; a table may have more rows."""
    table = op == "embedding_sum" and x.ndim == 2 and len(x) >= len(arg)
    return x.shape == arg.shape or (table and x.shape[1] == arg.shape[1])


def other_ops(reference, step):
    """(name, result) of each of the model's linear layers and norms on the input of a step."""
    x, p = step.args[0], reference.program.p
    for name, weight in p.items():
        site = name.removesuffix(".weight")
        bias = p.get(f"{site}.bias")
        if bias is None or site == name or x.shape[-1] != weight.shape[-1]:
            continue
        if weight.ndim == 1:
            yield site, layernorm(x, weight, bias, eps=reference.program.a.eps)
        elif weight.ndim == 2:
            yield site, linear(x, weight, bias)


def _with(step, changes):
    args = [changes.get(i, x) for i, x in enumerate(step.args)]
    return step.function(*args, **step.fixed)


def terms(step):
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
        shift = np.broadcast_to(beta, x.shape)
        return [("γ·x̂", gamma * unit), ("β", shift), ("x̂", unit), ("x", x)]
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
