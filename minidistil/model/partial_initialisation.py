"""Parameters of one model where another begins: what fits is taken over, with all that it needs.

    a weight and its bias, a γ and its β     both, or neither where one has another shape
    tables of positions and of token types   row by row, as far as both reach

A BERT's position t is row t, a RoBERTa's row padding+1+t: between the two the rows move, and texts
that are padded on the right find the same vectors.
"""

import numpy as np

TABLES = ("embeddings.position.weight", "embeddings.type.weight")


def initialise_from(params, given, shift=(0, 0)):
    """A model's first values, in place of which stand those of another wherever they fit.

    params, given: {the model's name: array}, of its own and of the other. shift: the rows of their
    tables of positions at which a text begins.
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
    """What a weight and its bias have in common."""
    return name.removesuffix(".weight").removesuffix(".bias")


def _common_rows(mine, theirs, m, t):
    """Tables (·,C): the rows of mine from m on are those of theirs from t on, while there are."""
    if mine.shape[1] != theirs.shape[1]:
        return mine
    n = min(len(mine) - m, len(theirs) - t)
    return np.concatenate([mine[:m], theirs[t : t + n], mine[m + n :]])
