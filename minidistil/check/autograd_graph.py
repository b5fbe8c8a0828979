"""A PyTorch graph: its leaves, and a module's own autograd functions between two tensors."""

import inspect
from collections.abc import Sequence
from typing import Any

from minidistil.check.record import short


def graph_leaves(ends: Sequence[Any]) -> list[Any]:
    """The leaf tensors at which the gradients of the tensors `ends` arrive."""
    found, visited, nodes = [], set(), [tensor.grad_fn for tensor in ends]
    while nodes:
        node = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        nodes += [n for n, _ in node.next_functions]
    return found


def custom_functions(starts: Sequence[Any], end: Any) -> list[tuple[str, str]]:
    """[(name, file and line of its backward)] of the functions crossed from `starts` to `end`.

    starts: tensors nearer to the loss. end: a tensor of the graph, or a leaf.
    """
    reached: dict = {}
    for tensor in starts:
        _reaches(tensor.grad_fn, end, reached)
    functions = [type(node)._forward_cls for node, hit in reached.items() if hit and _own(node)]
    return [(f.__name__, _place(f)) for f in dict.fromkeys(functions)]


def _own(node):
    """Whether a node is a torch.autograd.Function's."""
    return hasattr(type(node), "_forward_cls")


def _reaches(start, end, reached):
    """Fill reached: {node: whether the end lies behind it}, by a search in depth."""
    stack = [(start, False)]
    while stack:
        node, done = stack.pop()
        if node is None or (node in reached and not done):
            continue
        following = [n for n, _ in node.next_functions if n is not None]
        if done:
            reached[node] = any(n is end.grad_fn or reached.get(n, False) for n in following)
        elif node is end.grad_fn or getattr(node, "variable", None) is end:
            reached[node] = node is not end.grad_fn
        else:
            reached[node] = False
            stack.append((node, True))
            stack += [(n, False) for n in following]


def _place(function):
    """file:line in backward of function."""
    try:
        file = inspect.getsourcefile(function.backward)
        line = function.backward.__code__.co_firstlineno
    except TypeError:
        return "unknown"
    return f"{short(file)}:{line} in backward"
