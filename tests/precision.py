"""How precise a float32 gradient has to be, and a statistic that luck does not decide.

The claim: no gradient is more than FACTOR times as far from the exact one as PyTorch's float32 is,
plus the floor of `compare`. One comparison decides nothing: the error of a few numbers is small by
luck, and one text whose rows have almost no variance makes all errors of its batch large, ours or
theirs. So each config is asked several times, on other numbers of the same kind, and the medians of
the errors are compared. A formula that loses digits loses them in every draw.
"""

import numpy as np

from minidistil.testing import FLOOR, REACH, rms

FACTOR = 2.0


class Errors:
    """rms errors of several draws, of each quantity by name."""

    def __init__(self):
        self._pairs = {}

    def add(self, mine, theirs, exact):
        """{name: array} of ours and of PyTorch in float32, and the exact one, of one draw.

        Errors count relative to the largest of the exact arrays.
        """
        largest = max(map(rms, exact.values()))
        for name, truth in exact.items():
            pair = [rms(np.asarray(x[name], np.float64) - truth) / largest for x in (mine, theirs)]
            self._pairs.setdefault(name, []).append(pair)

    def worst(self):
        """(share of what is allowed, error, PyTorch's, name) of the quantity nearest to it."""
        found = []
        for name, pairs in self._pairs.items():
            mine, theirs = np.median(pairs, axis=0)
            assert theirs <= REACH * FLOOR, f"{name}: PyTorch's own error is {theirs:.1e}"
            found.append((mine / (FACTOR * theirs + FLOOR), mine, theirs, name))
        return max(found)

    def check(self, what):
        """Raises AssertionError where an error is larger than allowed."""
        share, mine, theirs, name = self.worst()
        assert share <= 1, (
            f"{what}: {name} is {mine:.1e} from exact, PyTorch's float32 {theirs:.1e}"
        )
