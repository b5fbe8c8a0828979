"""Matching of a module's weights with the model's parameters, by value and under any names.

A weight may be transposed, several may be stacked or fused (q, k and v in one matrix), and the
heads may have an axis of their own.
"""

from itertools import permutations
from typing import NamedTuple

import numpy as np

CLOSE = 1e-5  # relative to the largest number: the error of a round trip through another format


class Piece(NamedTuple):
    """A part of a module's weight that is a parameter of the model."""

    name: str  # of the weight in the module
    part: object  # the function that extracts the part from the weight or from its gradient
    same: tuple  # canonical names of all parameters with these numbers


class ModuleWeights(NamedTuple):
    """The matched and the unmatched weights of a module."""

    pieces: list
    found: set  # canonical names
    missing: list  # canonical names
    foreign: dict  # weights that belong to no parameter, {name: array}


def align(tensors, params, n_heads, more=lambda shape: ()):
    """tensors {name: array} of a module, params {canonical name: array}  ->  ModuleWeights.
    more(shape): further ways to split a weight, as `ways` gives them."""
    shapes, pieces, foreign = {}, [], {}
    for name, p in params.items():
        shapes.setdefault(p.shape, []).append(name)
    for name, x in tensors.items():
        splits = (*ways(x.shape, n_heads), *more(x.shape))
        mine = list(_pieces(name, x, params, shapes, splits)) or list(_rows(name, x, params))
        pieces += mine
        if not mine:
            foreign[name] = x
    found = {same for piece in pieces for same in piece.same}
    return ModuleWeights(pieces, found, [n for n in params if n not in found], foreign)


def _pieces(name, x, params, shapes, splits):
    for parts in splits:
        mine = []
        for part in parts:
            array = part(x)
            same = tuple(
                n for n in shapes.get(array.shape, ()) if _equal(params[n], array)
            )  # fmt: skip
            if not same:
                break
            mine.append(Piece(name, part, same))
        else:
            yield from mine
            return


def _rows(name, x, params):
    """A table whose rows are a parameter's, and more before or behind them."""
    for n, p in params.items():
        more = len(x) - len(p) if x.ndim == p.ndim == 2 and x.shape[1] == p.shape[1] else 0
        for first in {0, min(2, more), more} if more > 0 else ():
            part = slice(first, first + len(p))
            if _equal(p, x[part]):
                yield Piece(name, lambda x, part=part: x[part], (n,))
                return


def _equal(a, b):
    first = (0,) * a.ndim
    scale = max(float(np.abs(a.ravel()[:64]).max()), 1e-30)
    if abs(a[first] - b[first]) > CLOSE * max(scale, abs(float(a[first]))):
        return False
    return bool(np.abs(a - b).max() <= CLOSE * max(np.abs(a).max(), 1e-30))


def ways(shape, H):
    """Ways to split a weight into parameters: lists of functions, one function a parameter."""
    yield [lambda x: x]
    if len(shape) == 2:
        yield [lambda x: x.T]
        yield [lambda x: x.reshape(-1)]  # a bias by heads
    squeezed = tuple(n for n in shape if n != 1)
    if squeezed != shape:
        yield [lambda x: x.reshape(squeezed)]
    if len(shape) == 3:
        for axes in permutations(range(3)):
            for n in (1, 2):
                yield [lambda x, a=axes, n=n: _flatten(x.transpose(a), n)]
    for n in (3, 2):
        if shape[0] % n == 0 and len(shape) <= 2:
            yield [lambda x, i=i, n=n: np.split(x, n)[i] for i in range(n)]
            if shape[0] % (n * H) == 0:
                yield [lambda x, i=i, n=n: _head_part(x, n, i, H) for i in range(n)]
        if len(shape) == 2 and shape[1] % n == 0:
            yield [lambda x, i=i, n=n: np.split(x, n, axis=1)[i].T for i in range(n)]
            if shape[1] % (n * H) == 0:
                yield [lambda x, i=i, n=n: _head_part(x.T, n, i, H) for i in range(n)]
    if 2 <= len(shape) <= 4 and shape[0] <= 64:
        for transposed in (False, True):
            yield [lambda x, i=i, t=transposed: x[i].T if t else x[i] for i in range(shape[0])]
    if len(shape) == 4:
        yield [lambda x: x.reshape(len(x), -1)]  # a convolution over patches
        for axes in permutations(range(3)):  # stacked, and with an axis for the heads
            for n in (1, 2):
                yield [
                    lambda x, i=i, a=axes, n=n: _flatten(x[i].transpose(a), n)
                    for i in range(shape[0])
                ]


def _flatten(x, n):
    """Three axes into two: the first n into one."""
    return x.reshape(-1, x.shape[2]) if n == 2 else x.reshape(x.shape[0], -1)


def _head_part(x, n, i, H):
    """Part i of every head, where the rows are (H, n, D)."""
    return x.reshape(H, n, -1, *x.shape[1:])[:, i].reshape(-1, *x.shape[1:])
