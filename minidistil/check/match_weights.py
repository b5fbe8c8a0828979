"""Which of a module's weights is which parameter of the model: found by value, whatever its name.

A weight may be transposed, several may be stacked or fused (q, k and v in one matrix), and a head's
rows may lie on an axis of their own.
"""

from itertools import permutations
from typing import NamedTuple

import numpy as np

CLOSE = 1e-5  # of the largest number: what a round trip through another format may cost


class Piece(NamedTuple):
    """A part of a module's weight that is a parameter of the model."""

    name: str  # the weight, as the module calls it
    part: object  # the function that takes the part, of the weight or of its gradient
    same: tuple  # canonical names of all parameters with these numbers


class ModuleWeights(NamedTuple):
    """The whole alignment."""

    pieces: list
    found: set  # canonical names
    missing: list  # canonical names
    foreign: dict  # weights that belong to no parameter, {name: array}


def align(tensors, params, n_heads):
    """tensors {name: array} of a module, params {canonical name: array}  ->  ModuleWeights."""
    shapes, pieces, foreign = {}, [], {}
    for name, p in params.items():
        shapes.setdefault(p.shape, []).append(name)
    for name, x in tensors.items():
        mine = list(_pieces(name, x, params, shapes, n_heads))
        pieces += mine
        if not mine:
            foreign[name] = x
    found = {same for piece in pieces for same in piece.same}
    return ModuleWeights(pieces, found, [n for n in params if n not in found], foreign)


def _pieces(name, x, params, shapes, H):
    for parts in _ways(x.shape, H):
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


def _equal(a, b):
    first = (0,) * a.ndim
    scale = max(float(np.abs(a.ravel()[:64]).max()), 1e-30)
    if abs(a[first] - b[first]) > CLOSE * max(scale, abs(float(a[first]))):
        return False
    return bool(np.abs(a - b).max() <= CLOSE * max(np.abs(a).max(), 1e-30))


def _ways(shape, H):
    """Lists of functions, each of which takes a weight apart into parameters."""
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
        for turned in (False, True):
            yield [lambda x, i=i, t=turned: x[i].T if t else x[i] for i in range(shape[0])]
    if len(shape) == 4:  # stacked, and with an axis for the heads
        for axes in permutations(range(3)):
            for n in (1, 2):
                yield [
                    lambda x, i=i, a=axes, n=n: _flatten(x[i].transpose(a), n)
                    for i in range(shape[0])
                ]


def _flatten(x, n):
    """Three axes into two: the first n into one."""
    return x.reshape(-1, x.shape[2]) if n == 2 else x.reshape(x.shape[0], -1)


def _head_part(x, n, i, H):
    """Rows (H, n, D): part i of every head."""
    return x.reshape(H, n, -1, *x.shape[1:])[:, i].reshape(-1, *x.shape[1:])
