"""What a decoder remembers of texts that grow: every block's keys and values, with room for more.

    text 0   k k k · ·        B texts of different lengths have as many rows each, `room`, which
    text 1   k k k k k        doubles when one of them is full; no query meets what is free

The arrays lie on the host, whatever the backend: a device gets them anew at each step.
"""

import numpy as np


class KVCache:
    """Keys and values of B texts. lengths (B,): how many tokens of each are in it."""

    def __init__(self, texts, place):
        self.lengths, self.place = np.zeros(texts, np.int64), place
        self._layers = {}

    def layer(self, i):
        """What block i asks for: (k, v, bounds) of new tokens  ->  all keys, all values, and
        `bounds` and `key_bounds` for `ops.attention`."""
        return lambda k, v, bounds: self._extended(i, k, v, bounds)

    def grow(self, bounds):
        """Once all blocks have seen the new tokens."""
        self.lengths = self.lengths + np.diff(bounds)

    def keep(self, parents):
        """Text r continues as a copy of what text parents[r] was."""
        if np.array_equal(parents, np.arange(len(self.lengths))):
            return
        for i, arrays in self._layers.items():
            self._layers[i] = tuple(x[parents] for x in arrays)
        self.lengths = self.lengths[parents]

    def _extended(self, i, k, v, bounds):
        new, total = np.diff(bounds), self.lengths + np.diff(bounds)
        kept = self._layers[i] = tuple(
            self._with_room(x, self._layers.get(i, (None, None))[j], total.max())
            for j, x in enumerate((k, v))
        )
        text = np.repeat(np.arange(len(new)), new)
        place = np.arange(len(text)) - bounds[text] + self.lengths[text]
        for array, x in zip(kept, (k, v), strict=True):
            array[text, place] = self.place.fetch(x)
        room = kept[0].shape[1]
        starts = np.arange(len(new)) * room
        key_bounds = np.append(np.stack([starts, starts + total], axis=1), len(new) * room)
        bounds = np.append(0, np.repeat(bounds[1:], 2))  # behind each text a gap without queries
        flat = [self.place.send(array.reshape(-1, array.shape[2])) for array in kept]
        return *flat, {"bounds": bounds, "key_bounds": key_bounds}

    def _with_room(self, x, old, needed):
        """The array of one block (B,room,C), larger if it has to be."""
        if old is not None and needed <= old.shape[1]:
            return old
        room = needed if old is None else max(needed, 2 * old.shape[1])
        array = np.zeros((len(self.lengths), room, x.shape[1]), x.dtype)
        if old is not None:
            array[:, : old.shape[1]] = old
        return array
