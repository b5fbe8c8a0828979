"""KV cache: the keys and values of every block for B texts that grow, with spare capacity.

    text 0   k k k · ·        every text has the same number of rows, `capacity`, which doubles
    text 1   k k k k k        when the longest text fills it; no query attends to the spare rows

The arrays lie on the host, whatever the backend: a device receives them anew at each step.
"""

import numpy as np


class KVCache:
    """Keys and values of B texts. lengths (B,): the number of tokens of each."""

    def __init__(self, texts, place):
        self.lengths, self.place = np.zeros(texts, np.int64), place
        self._layers = {}

    def layer(self, i):
        """The function of block i: (k, v, bounds) of new tokens  ->  all keys, all values, and
        `bounds` and `key_bounds` for `ops.attention`."""
        return lambda k, v, bounds: self._extended(i, k, v, bounds)

    def grow(self, bounds: np.ndarray) -> None:
        """Count the new tokens, once all blocks have their keys and values."""
        self.lengths = self.lengths + np.diff(bounds)

    def keep(self, parents: np.ndarray) -> None:
        """Text r becomes a copy of text parents[r]."""
        if np.array_equal(parents, np.arange(len(self.lengths))):
            return
        for i, arrays in self._layers.items():
            self._layers[i] = tuple(x[parents] for x in arrays)
        self.lengths = self.lengths[parents]

    def _extended(self, i, k, v, bounds):
        new, total = np.diff(bounds), self.lengths + np.diff(bounds)
        kept = self._layers[i] = tuple(
            self._with_capacity(x, self._layers.get(i, (None, None))[j], total.max())
            for j, x in enumerate((k, v))
        )
        text = np.repeat(np.arange(len(new)), new)
        column = np.arange(len(text)) - bounds[text] + self.lengths[text]
        for array, x in zip(kept, (k, v), strict=True):
            array[text, column] = self.place.fetch(x)
        capacity = kept[0].shape[1]
        starts = np.arange(len(new)) * capacity
        key_bounds = np.append(np.stack([starts, starts + total], axis=1), len(new) * capacity)
        bounds = np.append(0, np.repeat(bounds[1:], 2))  # the spare rows of a text have no query
        flat = [self.place.send(array.reshape(-1, array.shape[2])) for array in kept]
        return *flat, {"bounds": bounds, "key_bounds": key_bounds}

    def _with_capacity(self, x, old, needed):
        """The array of one block (B,capacity,C), larger if `needed` rows do not fit."""
        if old is not None and needed <= old.shape[1]:
            return old
        capacity = needed if old is None else max(needed, 2 * old.shape[1])
        array = np.zeros((len(self.lengths), capacity, x.shape[1]), x.dtype)
        if old is not None:
            array[:, : old.shape[1]] = old
        return array
