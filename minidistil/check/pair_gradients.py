"""Pairing of written gradients, under any names and in usual layouts, with the reference's.

A pair is chosen by the name, where it says which gradient it is, and otherwise by the direction of
the array: a gradient that is scaled or slightly wrong still has the direction of the right one. A
gradient of zeros has none; words that both names share decide.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from minidistil.check.match_weights import ModuleWeights, Piece, ways
from minidistil.testing import rms

SAID, WORD = 3.0, 0.15  # scores of a name that says it, and of each word that names share
TINY = 1e-6  # relative to the largest gradient; a key bias's is rounding errors alone
SURE = 0.99  # of several gradients in one array; a single one is assumed below
CLOSE = 1e-3  # relative; a gradient that is right to rounding is far closer


class Part(NamedTuple):
    """A written array, or a part of one, in the shape of a gradient."""

    name: str  # of the array
    part: Callable | None  # extracts it from the array; None for a gradient of a quantity
    value: np.ndarray


def parameter_pieces(
    arrays: Mapping[str, np.ndarray],
    exact: Mapping[str, np.ndarray],
    public: Mapping[str, str],
    n_heads: int,
) -> ModuleWeights:
    """The pieces of written arrays that are gradients of parameters.

    exact: the reference's gradients under canonical names. public: {canonical name: name in the
    checkpoint}.
    """
    parts = [part for name, x in arrays.items() for part in split(name, x, exact, n_heads)[0]]
    pairs = paired(parts, exact, {c: (c, public[c]) for c in exact})
    pieces = [Piece(part.name, part.part, (c,)) for part, c in pairs]
    found, used = {c for _, c in pairs}, {part.name for part, _ in pairs}
    missing = [c for c in exact if c not in found]
    return ModuleWeights(
        pieces, found, missing, {n: x for n, x in arrays.items() if n not in used}
    )  # fmt: skip


def split(
    name: str, x: np.ndarray, exact: Mapping[str, np.ndarray], n_heads: int
) -> tuple[list[Part], float]:
    """([Part, …], how alike they are to gradients) of an array, in the layout that fits best;
    ([], −1) where no gradient has its sizes."""
    shapes = {}
    for c, g in exact.items():
        shapes.setdefault(g.shape, []).append(c)
    best, most = [], -1.0
    for way in ways(x.shape, n_heads):
        parts = [Part(name, part, part(x)) for part in way]
        if all(p.value.shape in shapes for p in parts):
            score = np.mean([
                max(alike(p.value, exact[c]) for c in shapes[p.value.shape]) for p in parts
            ])  # fmt: skip
            score -= 0.5 * (len(parts) > 1 and score < SURE)
            if score > most + 1e-9:
                best, most = parts, score
    return best, most


def paired(parts, exact, names):
    """[(part, name of its gradient)]: every part at most once, every gradient at most once.

    names: {name: the names that an array may say for it}.
    """
    tiny = TINY * max(map(rms, exact.values()), default=0.0)
    scores = [
        (_score(part, exact[c], names[c], tiny), i, c)
        for i, part in enumerate(parts)
        for c in exact
        if exact[c].shape == part.value.shape
    ]
    pairs, used = {}, set()
    for _, i, c in sorted(scores, key=lambda score: -score[0]):
        if i not in pairs and c not in used:
            pairs[i] = c
            used.add(c)
    return [(part, pairs[i]) for i, part in enumerate(parts) if i in pairs]


def _score(part, exact, names, tiny):
    said = SAID * any(says(part.name, name) for name in names)
    shared = max(len(words(part.name) & words(name)) for name in names)
    size = np.linalg.norm(exact)
    close = 1.0 * (np.linalg.norm(part.value - exact) <= CLOSE * size)
    direction = alike(part.value, exact) if min(rms(part.value), rms(exact)) > tiny else 0.0
    return said + close + direction + WORD * shared


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """|cos| of the angle between two arrays; 0 where one is zero or not finite."""
    sizes = np.linalg.norm(a) * np.linalg.norm(b)
    found = abs(float(np.vdot(a, b))) / sizes if sizes > 0 else 0.0
    return found if np.isfinite(found) else 0.0


def words(name: str) -> set[str]:
    """The words and numbers in a name: "L0/query_bias" -> {"l", "0", "query", "bias"}."""
    return set(re.findall(r"[a-z]+|\d+", name.lower()))


def says(written: str, name: str) -> bool:
    """Whether a written name ends with a name, whatever separates its parts."""
    plain = [re.sub(r"[^a-z0-9]+", ".", n.lower()).strip(".") for n in (written, name)]
    plain[0] = plain[0].removesuffix(".grad")
    return f".{plain[0]}".endswith(f".{plain[1]}")
