"""What a learner calls in a notebook: `check`, `hint`, `solution`, `cases`."""

from collections.abc import Callable, Sequence

from minidistil.lesson.capstone import FILE
from minidistil.lesson.exercise import exercises, find
from minidistil.lesson.grading import grade
from minidistil.lesson.piece_mistakes import MISTAKES
from minidistil.lesson.pieces import check_chapter


def check(name: str | int, attempt: Callable | None = None) -> None:
    """Grade an attempt at an exercise, and print the result.

    It is called with copies of the exercise's inputs. An attempt that returns None is reported as
    empty, one that raises with its error. If it reproduces the numbers of a known wrong answer, the
    sentence of that answer is the diagnosis; any other difference is described by its numbers.
    The number of a chapter without an attempt grades that chapter's functions in my_distilbert.py.
    """
    if isinstance(name, int):
        check_chapter(name)
    else:
        print(grade(find(name), attempt))


def hint(name: str) -> None:
    """Print the hint of an exercise, and the common mistakes in a function of my_distilbert.py."""
    if name in exercises() or name not in MISTAKES:
        print(find(name).hint)
    if name in MISTAKES:
        print(f"{name} in {FILE}, common mistakes:")
        print("\n".join(f"  * {sentence}" for sentence in MISTAKES[name]))


def solution(name: str) -> None:
    """Print the solution of an exercise."""
    exercise = find(name)
    print(exercise.source(), end="")
    if exercise.remark:
        print(f"\n{exercise.remark}")


def cases(name: str) -> Sequence[tuple]:
    """The inputs with which an exercise is checked: a tuple of arguments for each case."""
    return find(name).cases()
