"""Precision, recall and F1 of entities: one counts when kind, beginning and end are all right.

Which words an entity is made of follows conlleval, as seqeval does: it begins at B-X, or at an I-X
that does not go on with an X, and ends before the next beginning or O.
Source of the definitions: the CoNLL-2000 evaluation script.
"""


def entities(tags):
    """Tags of one sentence  ->  the set of its entities (kind, first word, last word)."""
    found, open_kind, first = set(), None, 0
    for i, tag in enumerate([*tags, "O"]):
        scheme, _, kind = tag.partition("-")
        inside = scheme in ("B", "I")
        goes_on = scheme == "I" and kind == open_kind
        if open_kind is not None and not goes_on:
            found.add((open_kind, first, i - 1))
            open_kind = None
        if inside and not goes_on:
            open_kind, first = kind, i
    return found


def entity_scores(predicted, labels):
    """Tags of sentences, a list of lists each  ->  precision, recall, f1 over all entities.

    A share of nothing is 0.
    """
    right = said = given = 0
    for mine, truth in zip(predicted, labels, strict=True):
        mine, truth = entities(mine), entities(truth)
        right, said, given = right + len(mine & truth), said + len(mine), given + len(truth)
    precision, recall = right / max(said, 1), right / max(given, 1)
    return {
        "precision": precision, "recall": recall,
        "f1": 2 * right / max(said + given, 1),
    }  # fmt: skip
