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
    number: int | None  # among the calls of its stage; None for several of them

    def on(self, changes):
        """The result with other arguments.  changes: {index: argument}."""
        args = [changes.get(i, x) for i, x in enumerate(self.args)]
        return self.function(*args, **self.fixed)


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
    before = program.run(stop=stage) if stage else {None: None}
    program.right = {op: spying(op, f) for op, f in program.right.items()}
    x = before.pop(None)
    return calls, before | program.run(start=stage, x=x, stop=min(stage + 2, len(program.stages)))


def call_of(reference, quantity):
    """The OpCall whose result is a quantity; None for what several ops compute."""
    if quantity.endswith("context"):
        return _context(reference, quantity)
    calls, values = _calls(reference, quantity)
    known = {id(x): n for n, x in values.items() if n is not None}
    known |= {id(x): n for n, x in reference.program.p.items()}
    for number, (op, function, args, fixed, result) in enumerate(calls):
        results = result if isinstance(result, tuple) else (result,)
        if op == "scores" and result is values[quantity]:
            return _scores(reference, quantity, function, number)
        names = tuple(known.get(id(x)) for x in args)
        if quantity == "loss" and op in ("next_token_loss", "token_loss"):
            mean = lambda z, y, f=function: np.reshape(f(z, y), 1)  # noqa: E731
            return OpCall(op, mean, args, fixed, names, number)
        if op not in ("context_of", "places") and any(x is values[quantity] for x in results):
            return OpCall(op, function, args, fixed, names, number)
    return None


def _scores(reference, quantity, function, number):
    """The scores as an op of the rows q and k (B,T,C)."""
    names = tuple(quantity.replace("scores", z) for z in "qk")
    q, k = (reference.values[n] for n in names)
    split, _ = reference.program.right["heads"](reference.values[quantity].shape[1])
    return OpCall("scores", lambda q, k: function(split(q), split(k)), (q, k), {}, names, number)


def _context(reference, quantity):
    """The context as an op of the weights (B,H,T_q,T_k) and the rows v (B,T_k,C)."""
    names = tuple(quantity.replace("context", z) for z in ("probs", "v"))
    p, v = (reference.values[n] for n in names)
    split, merge = reference.program.right["heads"](p.shape[1])
    return OpCall("context", lambda p, v: merge(p @ split(v)), (p, v), {}, names, None)


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
    """("input" or "parameter", its name, the other's, result) with one input, or a weight and its
    bias, taken from elsewhere: all parameters and all quantities of the shape."""
    p, values = reference.program.p, reference.values
    for i, (arg, name) in enumerate(zip(step.args, step.names, strict=True)):
        if not isinstance(arg, np.ndarray):
            continue
        kind, those = ("parameter", p) if name in p else ("input", values)
        for other, x in those.items():
            if other != name and x is not arg and _fits(x, arg, step.op):
                yield kind, name or "the input", other, step.on({i: x})
    pairs = [(i, n) for i, n in enumerate(step.names) if n in p]
    if len(pairs) != 2:
        return
    site = pairs[0][1].rpartition(".")[0]
    for other in sorted({n.rpartition(".")[0] for n in p} - {site}):
        both = {i: p.get(f"{other}.{n.rpartition('.')[2]}") for i, n in pairs}
        if all(x is not None and x.shape == step.args[i].shape for i, x in both.items()):
            yield "parameter", site, other, step.on(both)


def _fits(x, arg, op):
    """Whether an array can stand in an argument's place; a table may have more rows."""
    table = op == "embedding_sum" and x.ndim == 2 and len(x) >= len(arg)
    return x.shape == arg.shape or (table and x.shape[1] == arg.shape[1])


def other_ops(reference, x):
    """(name, result) of each of the model's linear layers and norms on x (B,T,C)."""
    p = reference.program.p
    for name, weight in p.items():
        site = name.removesuffix(".weight")
        bias = p.get(f"{site}.bias")
        if bias is None or site == name or x.shape[-1] != weight.shape[-1]:
            continue
        if weight.ndim == 1:
            yield site, layernorm(x, weight, bias, eps=reference.program.a.eps)
        elif weight.ndim == 2:
            yield site, linear(x, weight, bias)


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
    if step.op == "placed":
        x, position = step.args
        return [("tokens", x), ("position", np.broadcast_to(position, x.shape))]
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
