"""Texts longer than a model reads, in windows that overlap.

    [CLS] a b c d e f g h [SEP]          pieces of the whole text
    [CLS] a b c d [SEP]                  windows of 6 tokens whose neighbours share 1 piece: the
    [CLS] d e f g [SEP]                  special tokens, and of two texts the shorter one, are in
    [CLS] g h [SEP]                      all of them

A classifier's answer is that of the mean of the windows' logits. A tagger's answer for a word is
that of the window in whose middle the word lies: where the fewer of the pieces before and behind it
are the most, the text's own ends not counting as ends. Of two texts that are both longer than half
the room each is cut to a half.
"""

import warnings
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

STRIDE = 128  # pieces that neighbours share at most, where nothing else is said


class Parts(NamedTuple):
    """The windows of some texts: ids and types (T,) of each, the number of its text, and which
    pieces of the whole text it has (T,); which texts are cut all the same."""

    ids: list
    types: list
    owners: np.ndarray
    places: list
    cut: list


def usual_stride(max_length):
    """How many pieces neighbours share, where nothing is said."""
    return min(STRIDE, max_length // 3)


def check_stride(tokenizer, max_length, stride):
    """Raises ValueError where windows of max_length tokens cannot share `stride` pieces."""
    room = max_length - tokenizer.backend.num_special_tokens_to_add(False)
    if not 0 <= stride < room:
        raise ValueError(
            f"a stride of {stride} must be at least 0 and less than the {room} pieces of a text "
            f"that fit {max_length} tokens"
        )


def parts_of(encodings, tokenizer, max_length=None, stride=None):
    """Whole encodings, of texts, pairs or words (`Pieces`), in their order  ->  Parts.

    stride: pieces that neighbours share; None: a text is cut to one window. Raises ValueError for a
    max_length beyond the model's, and a stride that windows cannot share.
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


def count_cut(parts, tokenizer, max_length, called="texts"):
    """Say how many of the texts are cut; called: what they are."""
    if parts.cut:
        end = "beginnings" if tokenizer.side == "left" else "ends"
        warnings.warn(
            f"{len(parts.cut)} of {parts.owners[-1] + 1} {called} are longer than "
            f"{tokenizer.checked_length(max_length)} tokens; their {end} are not read",
            stacklevel=3,
        )


def windows_of(sequence_ids, length, stride, side="right"):
    """sequence_ids (T,): 0 for a text's pieces, 1 for its partner's, None for special tokens  ->
    the places (≤ length,) of each window, and whether they hold everything.

    stride None: one window, which loses what is too much at the end, or at the left `side`.
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
    """Of some places those that are too many: the last, or the first."""
    return places[kept:] if side == "right" else places[: len(places) - kept]


def mean_of(logits, owners):
    """logits (W,K) of windows, the text of each (W,), 0 to B−1  ->  the texts' means (B,K)."""
    total = np.zeros((owners.max() + 1, logits.shape[1]), np.float64)
    np.add.at(total, owners, logits)
    return (total / np.bincount(owners)[:, None]).astype(logits.dtype)


def answering(places, word_ids):
    """Windows of one text and each piece's word (T,), None for special tokens  ->  for each window
    (T_w,) bool: the pieces that it answers for.

    A word is answered by one window, whole; of one that no window holds whole, the pieces that the
    window of its first does not hold are answered one by one.
    """
    first = np.array([word is not None for word in word_ids])
    if len(places) == 1:
        return [first[places[0]]]
    inside = [at[first[at]] for at in places]
    edges = [(int(at[0]), int(at[-1])) for at in inside]
    lows, highs = zip(*edges, strict=True)  # both grow
    begin, end = lows[0], highs[-1]
    winner = np.full(len(word_ids), -1)

    def middle(start, stop):
        """The window that lies best around these pieces."""
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
