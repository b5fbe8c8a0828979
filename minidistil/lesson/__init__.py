"""The notebooks' exercises: graders, hints and solutions, and the plot style of the chapters.

    lesson.check("softmax_backward", my_function)     # right, wrong and why, or still empty
    lesson.hint("softmax_backward")
    lesson.solution("softmax_backward")

The exercises of a chapter are declared in one file of this package, such as `chapter02.py`;
`exercise.py` says how.
"""

from minidistil.lesson.exercise import Exercise, MistakeError, exercise
from minidistil.lesson.grading import cases, check, hint, solution
from minidistil.lesson.style import STYLE, size

__all__ = [
    "STYLE",
    "Exercise",
    "MistakeError",
    "cases",
    "check",
    "exercise",
    "hint",
    "size",
    "solution",
]
