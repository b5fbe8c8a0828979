"""Arguments of public functions, checked where they come in: a ValueError gives the rule and the
value."""

import math
import os
from numbers import Integral, Real

import numpy as np

from minidistil.io.limits import short


def whole(name, value, least=0, most=None):
    """value, a whole number of these bounds, as an int."""
    right = isinstance(value, Integral) and not isinstance(value, bool)
    if not right or value < least or (most is not None and value > most):
        bounds = f"from {least} up" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {bounds}, not {short(value)}")
    return int(value)


def number(name, value, least=-math.inf, above=False, rule=None):
    """value, a finite number that is at least `least`, or larger than it (above), as a float.

    rule: what it must be, in words; by default made of the bound.
    """
    right = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not right or value < least or (above and value == least):
        bound = f"above {least}" if above else f"a number from {least} up"
        bound = "a finite number" if least == -math.inf else bound
        raise ValueError(f"{name} must be {rule or bound}, not {short(value)}")
    return float(value)


def switch(name, value):
    """value, True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {short(value)}")
    return bool(value)


def one_of(name, value, choices):
    """value, one of the choices, which are strings."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {short(value)}")
    return value


def path_like(name, value):
    """value, the name of a file or a folder: a text that is not empty, or a path."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError(f"{name} must be a name or a path, not {short(value)}")
    return value


def real(name, x, axes=1):
    """x, an array of real numbers with at least so many axes, none of them of length 0."""
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} must be an array whose rows have one length") from None
    if x.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, not {x.dtype}")
    if x.ndim < axes or 0 in x.shape:
        raise ValueError(f"{name} must have {axes} axes or more and no empty one, not {x.shape}")
    return x


def ones_and_zeros(name, x, shape):
    """x, an array of this shape that holds 0 and 1, or False and True, as bool."""
    x = np.asarray(x)
    if x.shape != shape:
        raise ValueError(f"{name} {x.shape} must be {shape}")
    if x.dtype.kind not in "bfiu" or not np.isin(x, (0, 1)).all():
        raise ValueError(f"{name} must hold 0 and 1 alone")
    return x.astype(bool)
