"""Chapter 7, tokens: the greedy split of WordPiece, and the embedding's backward."""

import numpy as np

from minidistil.lesson.exercise import exercise, rng

# ----------------------------------------------------------------------------- WordPiece

PIECES = {
    "u", "un", "unwatch", "##wa", "##watch", "##a", "##able", "##ab", "##le", "film", "fi", "##l",
    "##m", "##lm", "##maker", "##make", "##r", "##rs", "##s", "able", "a", "ab", "z", "##lea",
    "##k", "leak", "un##", "s", "##ble",
}  # fmt: skip


def inputs():
    """Words with several splits, one with no split behind its start, and one of a single letter."""
    words = "unwatchable", "filmmakers", "ables", "unleak", "zxz", "s", "uncut"
    return [(word, PIECES) for word in words]


@exercise(
    cases=inputs,
    hint="Two loops: from `start`, try the ends from the longest to the shortest. After the first "
    "piece, look up '##' + the letters.",
)
def cut(word, pieces):
    """The longest piece that fits, again and again."""
    found, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        for end in range(len(word), start, -1):
            if mark + word[start:end] in pieces:
                found.append(mark + word[start:end])
                start = end
                break
        else:
            return ["[UNK]"]
    return found


@cut.right
def recursive(word, pieces, mark=""):
    for end in range(len(word), 0, -1):
        if mark + word[:end] in pieces:
            rest = recursive(word[end:], pieces, "##") if word[end:] else []
            return ["[UNK]"] if rest == ["[UNK]"] else [mark + word[:end], *rest]
    return ["[UNK]"]


def split(word, pieces, *, mark="##", longest=True, unknown=lambda found, start: ["[UNK]"]):
    """The greedy split with one rule changed."""
    found, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1) if longest else range(start + 1, len(word) + 1)
        fitting = (end for end in ends if (mark if start else "") + word[start:end] in pieces)
        end = next(fitting, None)
        if end is None:
            return unknown(found, start)
        found.append((mark if start else "") + word[start:end])
        start = end
    return found


@cut.wrong("a piece inside a word begins with ##: the marks are missing in the result")
def without_marks(word, pieces):
    return [piece.removeprefix("##") for piece in split(word, pieces)]


@cut.wrong("inside a word, look up '##' + the letters, not the letters alone")
def looked_up_without_marks(word, pieces):
    return split(word, pieces, mark="")


@cut.wrong("the longest piece that fits is taken, not the shortest")
def shortest(word, pieces):
    return split(word, pieces, longest=False)


@cut.wrong('a word that cannot be split whole is ["[UNK]"]: the pieces before it are dropped')
def partly_unknown(word, pieces):
    return split(word, pieces, unknown=lambda found, start: [*found, "[UNK]"])


@cut.wrong('a word that cannot be split is ["[UNK]"], not the pieces found so far')
def stopped(word, pieces):
    return split(word, pieces, unknown=lambda found, start: found)


@cut.wrong('a word that cannot be split is ["[UNK]"], not an empty list')
def empty(word, pieces):
    return split(word, pieces, unknown=lambda found, start: [])


@cut.wrong("the first piece has no mark: ## marks a continuation")
def all_marked(word, pieces):
    found = split(word, pieces)
    return found if found == ["[UNK]"] else ["##" + piece.removeprefix("##") for piece in found]


# ----------------------------------------------------------------------------- the embedding


@exercise(
    cases=lambda: [(rng(1).standard_normal((7, 3)), np.array([1, 4, 1, 1, 0, 4, 2]), 7)],
    remark="It is right, and slow: the library sorts the ids and adds the rows of each.",
    hint="The one-hot rows of the tokens are np.eye(V)[ids], (N,V), and the forward is their "
    "product with the table.",
)
def embedding_backward(dy, ids, V):
    return np.eye(V)[ids].T @ dy


@embedding_backward.right
def added_one_by_one(dy, ids, V):
    table = np.zeros((V, dy.shape[1]))
    for row, i in zip(dy, ids, strict=True):
        table[i] += row
    return table


@embedding_backward.right
def row_by_row(dy, ids, V):
    return np.stack([dy[ids == v].sum(axis=0) for v in range(V)])


@embedding_backward.wrong("rows that are read several times keep only the last gradient")
def last(dy, ids, V):
    table = np.zeros((V, dy.shape[1]))
    table[ids] += dy
    return table


@embedding_backward.wrong("rows that are read several times keep only the first gradient")
def first(dy, ids, V):
    return last(dy[::-1], ids[::-1], V)


wrong = embedding_backward.wrong
wrong("gradients of one row add up, they are not averaged")(
    lambda dy, ids, V: (
        embedding_backward(dy, ids, V) / np.bincount(ids, minlength=V).clip(1)[:, None]
    )
)
wrong("the table has V rows, also those that no token reads")(
    lambda dy, ids, V: embedding_backward(dy, ids, ids.max() + 1)
)
wrong("this is the forward: it reads row ids[n] of dy")(lambda dy, ids, V: dy[ids])
wrong("the gradient is transposed: the table is (V,C)")(
    lambda dy, ids, V: embedding_backward(dy, ids, V).T
)
wrong("a row's gradient is the sum of dy, not the number of its tokens")(
    lambda dy, ids, V: embedding_backward(np.ones_like(dy), ids, V)
)
