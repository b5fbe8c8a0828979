"""Partial initialisation: copy every parameter whose shape matches from another model.

    a weight and its bias, a γ and its β         both or neither
    tables of positions and of token types       row by row, up to the shorter table's length

Position t is row t in BERT's table and row padding_id + 1 + t in RoBERTa's. Between the two, rows
are shifted so that a position keeps its vector.
"""

from collections.abc import Mapping

import numpy as np

TABLES = ("embeddings.position.weight", "embeddings.type.weight")


def initialise_from(
    params: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    shift: tuple[int, int] = (0, 0),
) -> dict[str, np.ndarray]:
    """`params` with the arrays of `given` in every place where they fit.

    params, given: {canonical name: array} of the new and of the other model. shift: the row of
    position 0 in the new and in the other position table.
    """
    found, roles = dict(params), {}
    for name in params:
        roles.setdefault(_role(name), []).append(name)
    for names in roles.values():
        if names[0] in given and names[0].endswith(TABLES):
            rows = shift if "position" in names[0] and shift[0] != shift[1] else (0, 0)
            found[names[0]] = _common_rows(params[names[0]], given[names[0]], *rows)
        elif all(n in given and given[n].shape == params[n].shape for n in names):
            found |= {n: given[n] for n in names}
    return found


def _role(name):
    """The name without .weight or .bias."""
    return name.removesuffix(".weight").removesuffix(".bias")


def _common_rows(mine, theirs, m, t):
    """Tables (·,C): mine with its rows from m on replaced by those of theirs from t on, as far as
    both tables reach."""
    if mine.shape[1] != theirs.shape[1]:
        return mine
    n = min(len(mine) - m, len(theirs) - t)
    return np.concatenate([mine[:m], theirs[t : t + n], mine[m + n :]])
