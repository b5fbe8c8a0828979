"""Precision, recall and F1 of entities: one counts when kind, beginning and end are all right.

    IOB     B-X begins an entity, I-X continues it; in IOB1, I-X begins one, too, and B-X parts
            two neighbours of one kind
    IOE     E-X ends one
    IOBES   B-X, I-X …, E-X; S-X is an entity of one word
    BILOU   B-X, I-X …, L-X; U-X is an entity of one word

IOB and IOE are read as conlleval reads them: an entity begins at B-X, or at an I-X that does not go
on with an X, and ends before the next beginning or O. In IOBES and BILOU, only what begins and ends
as it must is an entity. So does seqeval: its default for the first two, its strict mode for the
others, which it measures in no other.
Source of the definitions: the CoNLL-2000 evaluation script; seqeval 1.2.2.
"""

OUTSIDE = "O"
LAST_AND_SINGLE = {"IOBES": "ES", "BILOU": "LU"}
LETTERS = {"IOB": "BI", "IOE": "IE", "IOBES": "BIES", "BILOU": "BILU"}


def scheme_of(names):
    """The names of all tags  ->  the first scheme that has their letters, None where none has."""
    parted = [_parted(name) for name in names if name != OUTSIDE]
    letters = {letter for letter, _ in parted}
    fitting = (scheme for scheme, own in LETTERS.items() if letters <= set(own))
    return next(fitting, None) if parted and None not in letters else None


def entities(tags, scheme="IOB"):
    """Tags of one sentence  ->  the set of its entities (kind, first word, last word)."""
    parted = [_parted(tag) for tag in tags]
    if scheme in LAST_AND_SINGLE:
        return _strict(parted, *LAST_AND_SINGLE[scheme])
    return _as_conlleval(parted)


def entity_scores(predicted, labels, scheme="IOB"):
    """Tags of sentences, a list of lists each  ->  precision, recall, f1 over all entities.

    A share of nothing is 0.
    """
    right = said = given = 0
    for mine, truth in zip(predicted, labels, strict=True):
        mine, truth = entities(mine, scheme), entities(truth, scheme)
        right, said, given = right + len(mine & truth), said + len(mine), given + len(truth)
    precision, recall = right / max(said, 1), right / max(given, 1)
    return {
        "precision": precision, "recall": recall,
        "f1": 2 * right / max(said + given, 1),
    }  # fmt: skip


def _parted(tag):
    """B-X  ->  "B", "X"; B alone, which names no kind, "B", "_"; another tag None, tag."""
    if tag[:1] in set("BIESLU") and tag[1:2] in ("", "-"):
        return tag[0], tag[2:] or "_"
    return None, tag


def _as_conlleval(parted):
    found, first, last, kind = set(), None, None, None
    for i, (letter, own) in enumerate([*parted, (None, OUTSIDE)]):
        goes_on = first is not None and letter in ("I", "E") and own == kind and last != "E"
        if first is not None and not goes_on:
            found.add((kind, first, i - 1))
            first = None
        if letter is not None and not goes_on:
            kind, first = own, i
        last = letter
    return found


def _strict(parted, end, single):
    found, first, kind = set(), None, None
    for i, (letter, own) in enumerate(parted):
        goes_on = first is not None and letter in ("I", end) and own == kind
        if goes_on and letter == end:
            found.add((kind, first, i))
        if letter == single:
            found.add((own, i, i))
        if not goes_on or letter == end:
            kind, first = own, i if letter == "B" else None
    return found
