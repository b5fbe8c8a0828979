"""The notebooks' exercises: graders, hints and solutions; the learner's own DistilBERT; plot style.

    lesson.check("softmax_backward", my_function)     # right, wrong and why, or still empty
    lesson.hint("softmax_backward")
    lesson.solution("softmax_backward")

    lesson.start()      # writes my_distilbert.py, a DistilBERT with blanks
    lesson.check(3)     # grades what chapter 3 fills in
    lesson.fill(3)      # writes the solutions of chapter 3

The exercises of a chapter are declared in one file of this package, such as `chapter02.py`;
`exercise.py` says how.
"""

from minidistil.lesson.capstone import fill, start
from minidistil.lesson.commands import cases, check, hint, solution
from minidistil.lesson.exercise import Exercise, MistakeError, exercise
from minidistil.lesson.style import STYLE, size

__all__ = [
    "STYLE",
    "Exercise",
    "MistakeError",
    "cases",
    "check",
    "exercise",
    "fill",
    "hint",
    "size",
    "solution",
    "start",
]
