"""Shared code of the notebooks: example sizes, plot style, and `check` for the exercises.

`check` compares a function with the right one and describes the difference.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minidistil.check import explain
from minidistil.io.counts import counted
from minidistil.testing import rms

TOLERANCE = 1e-6  # relative; float64 rounding is far below it, the effect of a bug far above

# For plt.style.use: colours safe for colour blindness, and a line style for each, for print.
STYLE = {
    "figure.figsize": (7, 3),
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": (
        "cycler('color', ['006BA4', 'C85200', '595959', '5F9ED1', 'FFBC79'])"
        " + cycler('linestyle', ['-', '--', '-.', ':', '-'])"
    ),
    "image.cmap": "cividis",
    "lines.linewidth": 2,
    "legend.frameon": False,
}


def size(full: Any, small: Any) -> Any:
    """`full`; `small` if the environment sets MINIDISTIL_LESSON=small, as the tests do."""
    return small if os.environ.get("MINIDISTIL_LESSON") == "small" else full


def check(
    attempt: Callable,
    right: Callable,
    *args,
    names: Sequence[str] = (),
    mistakes: Mapping[str, Callable] | None = None,
    op: str | None = None,
    **fixed,
) -> None:
    """Compare the solution of an exercise with the right function, and print the result.

    attempt, right: called with copies of args and with fixed; they return an array, a number or a
    tuple of these. names: of the returned values. mistakes: {sentence: function}; the sentence of a
    function that reproduces the attempt's numbers is printed as the diagnosis. op: the op's name
    for `md.check.explain`, which has further mistakes. An attempt that returns None is reported as
    empty. A difference without a known cause is described by its numbers.
    """
    name = attempt.__name__
    wanted = _tuple(_call(right, args, fixed))
    try:
        answer = _call(attempt, args, fixed)
    except Exception as error:  # an attempt may raise anything
        print(f"✗ {name} stopped with {type(error).__name__}: {error}")
        return
    if answer is None:
        print(f"○ {name} is still empty: write it, then run this cell again")
        return
    found = _tuple(answer)
    if len(found) != len(wanted):
        returned, things = (counted(len(x), "thing") for x in (found, wanted))
        print(f"✗ {name} returns {returned}, wanted {things}")
        return
    labels = names or [f"value {i}" for i in range(len(wanted))]
    descriptions = []
    for label, mine, theirs in zip(labels, found, wanted, strict=True):
        description = _difference(mine, theirs)
        if description:
            descriptions.append(f"{label if len(wanted) > 1 else 'the answer'} {description}")
    if not descriptions:
        print(f"✓ {name} is right")
        return
    print(f"✗ {name}: {'; '.join(descriptions)}")
    for sentence, mistake in (mistakes or {}).items():
        if _same(found, _tuple(_call(mistake, args, fixed))):
            print(f"  Diagnosis: {sentence}")
            return
    if op is not None:
        print(f"  Diagnosis: {explain(op, answer, *args, **fixed)}")


def _call(function, args, fixed):
    with np.errstate(all="ignore"):
        return function(*[np.copy(a) if isinstance(a, np.ndarray) else a for a in args], **fixed)


def _tuple(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def _difference(mine, theirs):
    """A description of the difference of one array; "" without one."""
    try:
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    except (TypeError, ValueError):
        return f"is a {type(mine).__name__}, which is no array of numbers"
    if mine.shape != theirs.shape:
        hint = "; is it transposed?" if mine.shape == theirs.shape[::-1] else ""
        return f"has shape {mine.shape}, wanted {theirs.shape}{hint}"
    bad, expected = ~np.isfinite(mine), ~np.isfinite(theirs)
    if (bad != expected).any():
        return f"is NaN or infinite in {counted(bad.sum(), 'entry')}"
    mine, theirs = np.where(bad, 0, mine), np.where(bad, 0, theirs)
    size_of = rms(theirs)
    if rms(mine - theirs) <= TOLERANCE * max(size_of, TOLERANCE):
        return ""
    if mine.any() and size_of:
        ratio = float(np.vdot(mine, theirs) / np.vdot(theirs, theirs))
        if rms(mine - ratio * theirs) <= TOLERANCE * rms(mine):
            return f"is {ratio:.6g} times the right one"
    shift = float(np.mean(mine - theirs))
    if mine.size > 1 and rms(mine - theirs - shift) <= TOLERANCE * max(size_of, abs(shift)):
        return f"is the right one plus {shift:.6g} everywhere"
    where = np.unravel_index(np.argmax(np.abs(mine - theirs)), mine.shape)
    place = f" at {tuple(map(int, where))}" if mine.ndim else ""
    return f"is wrong, most of all{place}: {mine[where]:.6g} instead of {theirs[where]:.6g}"


def _same(found, other):
    return len(found) == len(other) and not any(map(_difference, found, other))
