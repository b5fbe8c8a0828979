"""Overlapping windows of texts that are longer than a model reads.

    [CLS] a b c d e f g h [SEP]          pieces of the whole text
    [CLS] a b c d [SEP]                  windows of 6 tokens whose neighbours share 1 piece: the
    [CLS] d e f g [SEP]                  special tokens, and of two texts the shorter one, are in
    [CLS] g h [SEP]                      all of them

A classifier averages the logits of a text's windows. A tagger answers for a word from the window
in which the word is most central: where min(pieces before, pieces after) is largest; at an end of
the text that side does not count. Of a pair whose texts are both longer than half the room, each is
cut to a half.
"""

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from minidistil.data.tokenizer import Tokenizer
from minidistil.io.counts import part_of

STRIDE = 128  # the default number of pieces that neighbours share, at most


class Parts(NamedTuple):
    """The windows of some texts: of each its ids and types (T,), the number of its text, and its
    pieces' places in the whole text (T,); cut: the numbers of texts that are cut nevertheless."""

    ids: list
    types: list
    owners: np.ndarray
    places: list
    cut: list


def usual_stride(max_length: int) -> int:
    """The default number of pieces that neighbours share."""
    return min(STRIDE, max_length // 3)


def check_stride(tokenizer: Tokenizer, max_length: int, stride: int) -> None:
    """Raise ValueError where windows of max_length tokens cannot share `stride` pieces."""
    room = max_length - tokenizer.backend.num_special_tokens_to_add(False)
    if not 0 <= stride < room:
        raise ValueError(
            f"a stride of {stride} must be at least 0 and less than the {room} pieces of a text "
            f"that fit {max_length} tokens"
        )


def parts_of(
    encodings: Iterable, tokenizer: Tokenizer, max_length: int | None = None,
    stride: int | None = None,
) -> Parts:  # fmt: skip
    """Uncut encodings of texts, of pairs, or of words (`Pieces`)  ->  Parts.

    stride: pieces that neighbours share; None: a text is cut to one window. Raises ValueError for a
    max_length beyond the model's, and for a stride that does not fit the window.
    """
    length = tokenizer.checked_length(max_length)
    if stride is not None:
        check_stride(tokenizer, length, stride)
    found, owners, cut = ([], [], []), [], []
    for number, encoding in enumerate(encodings):
        windows, whole = windows_of(encoding.sequence_ids, length, stride, tokenizer.side)
        cut += [] if whole else [number]
        ids, types = np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64)
        for at in windows:
            for parts, x in zip(found, (ids[at], types[at], at), strict=True):
                parts.append(x)
            owners.append(number)
    ids, types, places = found
    return Parts(ids, types, np.array(owners, np.int64), places, cut)


def count_cut(
    parts: Parts, tokenizer: Tokenizer, max_length: int | None, called: str = "text"
) -> None:
    """Warn how many of the texts are cut; called: the singular noun of the warning."""
    if parts.cut:
        end = "beginning" if tokenizer.side == "left" else "end"
        some, room = len(parts.cut), tokenizer.checked_length(max_length)
        warnings.warn(
            f"{part_of(some, parts.owners[-1] + 1, called, 'is')} longer than {room} tokens; the "
            f"{end} is not read", stacklevel=3,
        )  # fmt: skip


def windows_of(
    sequence_ids: Sequence[int | None], length: int, stride: int | None, side: str = "right"
) -> tuple[list[np.ndarray], bool]:
    """sequence_ids (T,): 0 for the first text's pieces, 1 for the second's, None for special tokens
    ->  the places (≤ length,) of each window, and whether they hold everything.

    stride None: one window, cut at `side`.
    """
    T = len(sequence_ids)
    if length >= T:
        return [np.arange(T)], True
    kind = np.array([-1 if one is None else one for one in sequence_ids])
    longer = int(np.count_nonzero(kind == 1) >= np.count_nonzero(kind == 0))
    moving, other = np.flatnonzero(kind == longer), np.flatnonzero(kind == 1 - longer)
    free = length - np.count_nonzero(kind == -1)
    half = len(other) > free // 2
    if half or stride is None:
        dropped = [_surplus(other, free // 2 if half else len(other), side)]
        kept = len(other) - len(dropped[0])
        dropped.append(_surplus(moving, free - kept, side))
        return [np.delete(np.arange(T), np.concatenate(dropped))], False
    room = free - len(other)
    stride = min(stride, room - 1 if not len(other) else room // 2)
    windows, start = [], 0
    while not windows or start + stride < len(moving):
        part = moving[start : start + room]
        windows.append(np.sort(np.concatenate([np.flatnonzero(kind != longer), part])))
        start += room - stride
    return windows, True


def _surplus(places, kept, side):
    """The places beyond `kept`: the last ones, or with side "left" the first."""
    return places[kept:] if side == "right" else places[: len(places) - kept]


def mean_of(logits: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """logits (W,K) of windows, the text of each (W,), 0 to B−1  ->  the texts' means (B,K)."""
    total = np.zeros((owners.max() + 1, logits.shape[1]), np.float64)
    np.add.at(total, owners, logits)
    return (total / np.bincount(owners)[:, None]).astype(logits.dtype)


def answering(places: Sequence[np.ndarray], word_ids: Sequence[int | None]) -> list[np.ndarray]:
    """Windows of one text and each piece's word (T,), None for special tokens  ->  for each window
    (T_w,) bool: the pieces whose answers are taken from it.

    All pieces of a word have the same window. If no window holds the whole word, the pieces beyond
    the window of its first piece are assigned one by one.
    """
    first = np.array([word is not None for word in word_ids])
    if len(places) == 1:
        return [first[places[0]]]
    inside = [at[first[at]] for at in places]
    edges = [(int(at[0]), int(at[-1])) for at in inside]
    lows, highs = zip(*edges, strict=True)  # both ascending
    begin, end = lows[0], highs[-1]
    winner = np.full(len(word_ids), -1)

    def middle(start, stop):
        """The window in which these pieces are most central."""
        best, most = -1, -1.0
        for w in range(bisect_left(highs, start), bisect_right(lows, start)):
            low, high = edges[w]
            left = np.inf if low == begin else start - low
            right = np.inf if high == end else high - stop
            if best < 0 or min(left, right) > most:
                best, most = w, min(left, right)
        return best

    t, numbers = 0, np.flatnonzero(first)
    while t < len(numbers):
        stop = t
        while stop + 1 < len(numbers) and word_ids[numbers[stop + 1]] == word_ids[numbers[t]]:
            stop += 1
        w = middle(numbers[t], numbers[stop])
        for piece in numbers[t : stop + 1]:
            winner[piece] = w if piece <= edges[w][1] else middle(piece, piece)
        t = stop + 1
    return [winner[at] == w for w, at in enumerate(places)]
