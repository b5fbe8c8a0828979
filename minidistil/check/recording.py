"""The values of another implementation on the reference's batch, with no framework in sight.

A PyTorch module is recorded into these by `module_run.py`; arrays that a program in another
language has written become the same. The comparison reads nothing else.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Recorded(NamedTuple):
    """One array that an implementation computed."""

    value: np.ndarray  # float64
    where: str  # file:line in function, or the name under which the array was written
    op: str = ""
    single: bool = False  # whether it was less precise than float64


class Returned(NamedTuple):
    """One array that an implementation returns as an output."""

    name: str
    value: np.ndarray  # float64, or integers
    where: str  # its place, in words


def place_of(name: str) -> str:
    """The place of what a PyTorch module returns under a name."""
    return f"what the module returns as {name}"


class Recording(NamedTuple):
    """Everything known of an implementation's forward on one batch."""

    recorded: Sequence[Recorded]  # in the order of computation
    returned: Sequence[Returned]
    weights: Mapping[str, np.ndarray] | None  # float64, under any names; None: not known
    precision: str  # SINGLE or DOUBLE of `align.py`: which rounding error is allowed
    as_is: Sequence[Recorded] = ()  # the same in the implementation's own precision
    returned_as_is: Sequence[Returned] = ()
    births: Sequence = ()  # of NaN and infinity, in the implementation's own precision
    said: Sequence[str] = ()  # what could not be run, for the line "not compared"
    meant: Collection[str] | None = None  # quantities that have an array; None: all that arise
