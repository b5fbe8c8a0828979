"""What the notebooks share: how large their examples are, how their pictures look, and a `check`
that compares a reader's function with the right one and says what is wrong with it.
"""

import os

import numpy as np

from minidistil.check import explain
from minidistil.testing import rms

TOLERANCE = 1e-6  # of the answer's size: what float64 loses is far less, what a bug does far more

# For plt.style.use: colours that colour-blind people tell apart, and a dash for each, for print.
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


def size(full, small):
    """`full`, or `small` where the environment says MINIDISTIL_LESSON=small, as the tests do."""
    return small if os.environ.get("MINIDISTIL_LESSON") == "small" else full


def check(attempt, right, *args, names=(), mistakes=None, op=None, **fixed):
    """Print what is wrong with a reader's function, or that it is right.

    attempt, right: called with copies of args and with fixed; they return an array, a number or a
    tuple of these. names: of the things returned. mistakes: {sentence: function}; a function that
    reproduces the attempt's numbers gives the diagnosis its sentence. op: the name under which
    `md.check.explain` knows more of them. An attempt that returns None is still empty, which is no
    error. What has no known cause is described, never guessed at.
    """
    name = attempt.__name__
    wanted = _tuple(_call(right, args, fixed))
    try:
        answer = _call(attempt, args, fixed)
    except Exception as error:  # a reader may make any mistake
        print(f"✗ {name} stopped with {type(error).__name__}: {error}")
        return
    if answer is None:
        print(f"○ {name} is still empty: write it, then run this cell again")
        return
    found = _tuple(answer)
    if len(found) != len(wanted):
        print(f"✗ {name} returns {_things(len(found))}, wanted {_things(len(wanted))}")
        return
    labels = names or [f"value {i}" for i in range(len(wanted))]
    complaints = []
    for label, mine, theirs in zip(labels, found, wanted, strict=True):
        complaint = _complaint(mine, theirs)
        if complaint:
            complaints.append(f"{label if len(wanted) > 1 else 'the answer'} {complaint}")
    if not complaints:
        print(f"✓ {name} is right")
        return
    print(f"✗ {name}: {'; '.join(complaints)}")
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


def _things(count):
    return "1 thing" if count == 1 else f"{count} things"


def _complaint(mine, theirs):
    """What is wrong with one array, or ""."""
    try:
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    except (TypeError, ValueError):
        return f"is a {type(mine).__name__}, which is no array of numbers"
    if mine.shape != theirs.shape:
        turned = "; is it transposed?" if mine.shape == theirs.shape[::-1] else ""
        return f"has shape {mine.shape}, wanted {theirs.shape}{turned}"
    bad, expected = ~np.isfinite(mine), ~np.isfinite(theirs)
    if (bad != expected).any():
        return f"has {bad.sum()} entries that are NaN or infinite"
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
    return len(found) == len(other) and not any(map(_complaint, found, other))
