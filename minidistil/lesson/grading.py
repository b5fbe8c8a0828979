"""Compares an attempt at an exercise with its solution, and describes the difference."""

from collections.abc import Callable

import numpy as np

from minidistil.check.explain import UNKNOWN
from minidistil.io.counts import counted
from minidistil.lesson.exercise import Exercise, MistakeError
from minidistil.testing import rms

TOLERANCE = 1e-6  # relative; float64 rounding is far below it, the effect of a bug far above
SHOWN = 3  # differences that are described


def grade(exercise: Exercise, attempt: Callable) -> str:
    """The verdict: a line, and a second one with the diagnosis if there is one."""
    name, inputs, answers, wanted = exercise.name, exercise.cases(), [], []
    for args in inputs:
        try:
            answer = exercise.run(attempt, *args)
        except MistakeError as mistake:
            return f"✗ {name}\n  Diagnosis: {mistake}"
        except Exception as error:  # an attempt may raise anything
            return f"✗ {name} stopped with {type(error).__name__}: {error}"
        if answer is None:
            return f"○ {name} is still empty: write it, then run this cell again"
        wanted.append(_tuple(exercise.run(exercise.answer, *args)))
        answers.append(tuple(answer) if isinstance(answer, list) and len(wanted[-1]) > 1
                       else _tuple(answer))  # fmt: skip
        if len(answers[-1]) != len(wanted[-1]):
            returned, things = (counted(len(x), "thing") for x in (answers[-1], wanted[-1]))
            return f"✗ {name} returns {returned}, wanted {things}"
    differences = [_differences(exercise, *pair) for pair in zip(answers, wanted, strict=True)]
    first = next((i for i, found in enumerate(differences) if found), None)
    if first is None:
        return f"✓ {name} is right"
    place = f" (lesson.cases({name!r})[{first}])" if len(inputs) > 1 else ""
    described = list(differences[first].values())
    if len(described) > SHOWN:
        described[SHOWN:] = [f"and {counted(len(described) - SHOWN, 'other value')}"]
    text = f"✗ {name}: {'; '.join(described)}{place}"
    diagnosis = _diagnosis(exercise, inputs, answers, sorted(differences[first]))
    return f"{text}\n  Diagnosis: {diagnosis}" if diagnosis else text


def _differences(exercise, found, wanted):
    """{index of a returned value: description of its difference}, of those that differ."""
    labels = exercise.returns or [f"value {i}" for i in range(len(wanted))]
    if len(wanted) == 1:
        labels = ["the answer"]
    pairs = enumerate(zip(found, wanted, strict=True))
    described = {i: _difference(mine, theirs) for i, (mine, theirs) in pairs}
    return {i: f"{labels[i]} {text}" for i, text in described.items() if text}


def _diagnosis(exercise, inputs, answers, different):
    """The sentence of the wrong answer that gives these numbers. Without one, of those that give
    each of the different values; without these, what the exercise itself can explain."""
    reproduced = {}  # sentence: the indices of the values that it reproduces in every case
    for sentence, wrong in exercise.mistakes.items():
        theirs = [_answer_of(exercise, wrong, args) for args in inputs]
        if all(len(its) == len(mine) for mine, its in zip(answers, theirs, strict=True)):
            reproduced[sentence] = [
                i for i, _ in enumerate(answers[0])
                if not any(_difference(mine[i], its[i])
                           for mine, its in zip(answers, theirs, strict=True))
            ]  # fmt: skip
    for sentence, values in reproduced.items():
        if len(values) == len(answers[0]):
            return sentence
    parts = {i: [s for s, values in reproduced.items() if i in values] for i in different}
    if all(parts.values()):
        return "; ".join(dict.fromkeys(sentences[0] for sentences in parts.values()))
    numbers = _numbers(answers[0][0])
    if exercise.explained is None or numbers is None:
        return None
    found = exercise.explained(numbers, *inputs[0])
    return None if found is None or UNKNOWN in found else found


def _answer_of(exercise, wrong, args):
    """The values of a known wrong answer; none if it stops at these inputs."""
    try:
        return _tuple(exercise.run(wrong, *args))
    except (MistakeError, ArithmeticError, LookupError, TypeError, ValueError):
        return ()


def _numbers(value):
    """The value as float64; None for what is no array of numbers."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None


def _tuple(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def _difference(mine, theirs):
    """A description of the difference of one value; "" without one."""
    if mine is None:
        return "is missing (None)"
    if isinstance(theirs, list):  # of words
        same = isinstance(mine, list) and mine == theirs
        return "" if same else f"is {mine!r} instead of {theirs!r}"
    kind, mine, theirs = type(mine).__name__, _numbers(mine), _numbers(theirs)
    if mine is None:
        return f"is a {kind}, which is no array of numbers"
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
