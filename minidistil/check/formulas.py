"""The ops' formulas, and each with a single part changed: an operator, a constant, an operand, a
function, or a name."""

import ast
import copy
import math
from functools import cache

import numpy as np

from minidistil.distilbert import erf

FORMULAS = {
    "layernorm": ("(x - mean) / sqrt(var + eps) * gamma + beta",
                  "(x - mean) / sqrt(power - mean * mean + eps) * gamma + beta"),
    "residual": ("x + y",),
    "activation": ("0.5 * x * (1 + erf(x / sqrt(2)))",
                   "0.5 * x * (1 + tanh(sqrt(2 / 3.141592653589793) * (x + 0.044715 * x ** 3)))",
                   "maximum(x, 0)", "tanh(x)"),
    "linear": ("product + b",),
    "projection": ("product + b",),
    "embedding_sum": ("word + position + kind", "word + position"),
    "scores": ("product / sqrt(D)",),
    "weights": ("exp(s) / sum(exp(s))",),
}  # fmt: skip
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div)
CALLS = {
    "sqrt": np.sqrt, "erf": erf, "tanh": np.tanh, "exp": np.exp, "maximum": np.maximum,
    "sum": lambda x: x.sum(axis=-1, keepdims=True),
}  # fmt: skip


def rewritten(call):
    """(formula, the right formula, its result) of every single change of an op's formulas."""
    names = _names(call)
    if not names:
        return
    known = set()
    for right in FORMULAS.get(call.op, ()):
        for formula, code in _changed(right):
            if formula not in known:
                known.add(formula)
                result = _result(code, names)
                if result is not None:
                    yield formula, right, result


@cache
def _changed(right):
    """[(formula, its code)] of every single change of a formula."""
    formulas = dict.fromkeys(_changes(ast.parse(right, mode="eval")))
    return [(formula, compile(formula, "formula", "eval")) for formula in formulas]


def fitted(call, real, mine):
    """(formula, the right formula, its result) of each constant with the value that fits best.

    real(x): the entries of a result that count. mine: these entries of the wrong one.
    """
    names = _names(call)
    for right in FORMULAS.get(call.op, ()) if names else ():
        tree = ast.parse(right, mode="eval")
        for node in [n for n in ast.walk(tree) if isinstance(n, ast.Constant)]:
            was = node.value
            value = _best_constant(tree, node, names, real, mine)
            if value is not None:
                node.value = float(f"{value:.6g}")
                if (result := _result(ast.unparse(tree), names)) is not None:
                    yield ast.unparse(tree), right, result
            node.value = was


def _best_constant(tree, node, names, real, mine):
    """A constant's value by Gauss–Newton steps on the squared error; None where they diverge."""
    value = float(node.value)
    for _ in range(30):
        step = 1e-6 * max(abs(value), 1e-3)
        both = []
        for node.value in (value, value + step):
            result = _result(ast.unparse(tree), names)
            if result is None or np.shape(result)[:1] != np.shape(names.get("x", result))[:1]:
                return None
            both.append(real(result))
        slope, off = (both[1] - both[0]) / step, mine - both[0]
        change = float(np.vdot(slope, off) / max(np.vdot(slope, slope), 1e-300))
        if not np.isfinite(change) or abs(value + change) > 1e6:
            return None
        value += change
        if abs(change) <= 1e-12 * max(abs(value), 1e-12):
            break
    return value


def _result(code, names):
    """The value of a formula, as text or as code; None where it has none."""
    try:
        return eval(code, {"__builtins__": {}}, {**CALLS, **names})  # our own formulas
    except (NameError, ValueError, ZeroDivisionError, TypeError):
        return None


def _names(call):
    """The arrays that the formulas of an op name."""
    if call.op == "layernorm":
        x, gamma, beta = call.args
        mean, power = x.mean(-1, keepdims=True), (x * x).mean(-1, keepdims=True)
        return {"x": x, "mean": mean, "power": power, "var": x.var(-1, keepdims=True),
                "gamma": gamma, "beta": beta, "eps": call.fixed["eps"]}  # fmt: skip
    if call.op == "residual":
        return {"x": call.args[0], "y": call.args[1]}
    if call.op == "activation":
        return {"x": call.args[0]}
    if call.op in ("linear", "projection"):
        x, weight, bias = call.args
        return {"product": x @ weight.T, "b": bias}
    if call.op == "scores":
        s = call.function(*call.args)
        H = s.shape[1]
        D = call.args[0].shape[2] // H
        return {"product": s * math.sqrt(D), "D": D, "H": H}
    if call.op == "weights":
        s, mask = call.args
        return {"s": np.where(mask[:, None, None, :], s, -np.inf)}
    if call.op == "embedding_sum":
        word, position, *kind = call.args
        ids, first = call.fixed["ids"], call.fixed["first"]
        names = {"word": word[ids], "position": position[first : first + ids.shape[1]]}
        if kind and kind[0] is not None:
            names["kind"] = kind[0][call.fixed["types"]]
        return names
    return {}


def _changes(tree):
    """The sources of a formula with one node changed."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.expr)]
    names = sorted({n.id for n in nodes if isinstance(n, ast.Name)} - set(CALLS))
    for i, node in enumerate(nodes):
        for new in _instead(node, names):
            copied = copy.deepcopy(tree)
            old = [n for n in ast.walk(copied) if isinstance(n, ast.expr)][i]
            yield ast.unparse(_Swap(old, new).visit(copied))


class _Swap(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def _instead(node, names):
    """Nodes that may stand in a node's place."""
    if isinstance(node, ast.BinOp):
        yield node.left
        yield node.right
        yield ast.BinOp(node.right, node.op, node.left)
        for op in OPERATORS:
            yield ast.BinOp(node.left, op(), node.right)
    elif isinstance(node, ast.Constant):
        c = node.value
        for value in (0, -c, 2 * c, c / 2, c + 1, c - 1, math.pi):
            yield ast.Constant(value)
    elif isinstance(node, ast.Call):
        yield node.args[0]
        yield ast.BinOp(node.args[0], ast.Mult(), node.args[0])
    elif isinstance(node, ast.Name) and node.id not in CALLS:
        yield ast.UnaryOp(ast.USub(), node)
        yield ast.BinOp(ast.Constant(2), ast.Mult(), node)
        for name in names:
            yield ast.Name(name)
