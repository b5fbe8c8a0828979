"""Precision, recall and F1 of entities; an entity is correct if kind, start and end all match.

    IOB     B-X begins an entity, I-X continues it; in IOB1, I-X begins one, too, and B-X separates
            two neighbours of one kind
    IOE     E-X ends one
    IOBES   B-X, I-X …, E-X; S-X is an entity of one word
    BILOU   B-X, I-X …, L-X; U-X is an entity of one word

IOB and IOE follow conlleval: an entity begins at B-X, or at an I-X that does not continue an X, and
ends before the next beginning or O. In IOBES and BILOU only well-formed sequences are entities.
These are seqeval's default mode for the first two and its strict mode, the only one it has, for the
others.
Source of the definitions: the CoNLL-2000 evaluation script; seqeval 1.2.2.
"""

from collections.abc import Iterable, Sequence

OUTSIDE = "O"
LAST_AND_SINGLE = {"IOBES": "ES", "BILOU": "LU"}
LETTERS = {"IOB": "BI", "IOE": "IE", "IOBES": "BIES", "BILOU": "BILU"}


def scheme_of(names: Iterable[str]) -> str | None:
    """The names of all tags  ->  the first scheme that has all their letters, or None."""
    parted = [_parted(name) for name in names if name != OUTSIDE]
    letters = {letter for letter, _ in parted}
    fitting = (scheme for scheme, own in LETTERS.items() if letters <= set(own))
    return next(fitting, None) if parted and None not in letters else None


def entities(tags: Iterable[str], scheme: str = "IOB") -> set[tuple[str, int, int]]:
    """Tags of one sentence  ->  the set of its entities (kind, first word, last word)."""
    parted = [_parted(tag) for tag in tags]
    if scheme in LAST_AND_SINGLE:
        return _strict(parted, *LAST_AND_SINGLE[scheme])
    return _as_conlleval(parted)


def entity_scores(
    predicted: Iterable[Sequence[str]], labels: Iterable[Sequence[str]], scheme: str = "IOB"
) -> dict[str, float]:
    """Tags of sentences, a list of lists each  ->  precision, recall, f1 over all entities.

    0/0 counts as 0.
    """
    correct = found = given = 0
    for mine, truth in zip(predicted, labels, strict=True):
        mine, truth = entities(mine, scheme), entities(truth, scheme)
        correct, found, given = correct + len(mine & truth), found + len(mine), given + len(truth)
    precision, recall = correct / max(found, 1), correct / max(given, 1)
    return {
        "precision": precision, "recall": recall,
        "f1": 2 * correct / max(found + given, 1),
    }  # fmt: skip


def _parted(tag):
    """B-X  ->  "B", "X"; B alone, without a kind  ->  "B", "_"; another tag  ->  None, tag."""
    if tag[:1] in set("BIESLU") and tag[1:2] in ("", "-"):
        return tag[0], tag[2:] or "_"
    return None, tag


def _as_conlleval(parted):
    found, first, last, kind = set(), None, None, None
    for i, (letter, own) in enumerate([*parted, (None, OUTSIDE)]):
        continues = first is not None and letter in ("I", "E") and own == kind and last != "E"
        if first is not None and not continues:
            found.add((kind, first, i - 1))
            first = None
        if letter is not None and not continues:
            kind, first = own, i
        last = letter
    return found


def _strict(parted, end, single):
    found, first, kind = set(), None, None
    for i, (letter, own) in enumerate(parted):
        continues = first is not None and letter in ("I", end) and own == kind
        if continues and letter == end:
            found.add((kind, first, i))
        if letter == single:
            found.add((own, i, i))
        if not continues or letter == end:
            kind, first = own, i if letter == "B" else None
    return found
