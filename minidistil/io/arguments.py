"""Checks for the arguments of public functions. Each returns the converted value or raises a
ValueError that gives the rule and the value."""

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from minidistil.io.limits import short


def whole(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """An integer from `least` to `most` (None: unbounded)."""
    right = isinstance(value, Integral) and not isinstance(value, bool)
    if not right or value < least or (most is not None and value > most):
        bounds = f"from {least} up" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {bounds}, not {short(value)}")
    return int(value)


def number(
    name: str, value: Any, least: float = -math.inf, above: bool = False, rule: str | None = None
) -> float:
    """A finite float of at least `least`, with above=True larger than `least`.

    rule: the requirement in words for the error; None: a sentence made from the bound.
    """
    right = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not right or value < least or (above and value == least):
        bound = f"above {least}" if above else f"a number from {least} up"
        bound = "a finite number" if least == -math.inf else bound
        raise ValueError(f"{name} must be {rule or bound}, not {short(value)}")
    return float(value)


def switch(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {short(value)}")
    return bool(value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of the strings in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {short(value)}")
    return value


def path_like(name: str, value: Any) -> str | os.PathLike:
    """The path of a file or a folder: a non-empty str, or a path object."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError(f"{name} must be a name or a path, not {short(value)}")
    return value


def real(name: str, x: Any, axes: int = 1) -> np.ndarray:
    """An array of real numbers with at least `axes` axes, none of length 0."""
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} must be an array whose rows have one length") from None
    if x.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, not {x.dtype}")
    if x.ndim < axes or 0 in x.shape:
        raise ValueError(f"{name} must have {axes} axes or more and no empty one, not {x.shape}")
    return x


def ones_and_zeros(name: str, x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A bool array of this shape, from values 0 and 1 of any numeric type."""
    x = np.asarray(x)
    if x.shape != shape:
        raise ValueError(f"{name} {x.shape} must be {shape}")
    if x.dtype.kind not in "bfiu" or not np.isin(x, (0, 1)).all():
        raise ValueError(f"{name} must hold 0 and 1 alone")
    return x.astype(bool)
