"""An exercise: its solution, the inputs of its check, and the wrong answers that are known.

The exercises of chapter 2 are the `Exercise` objects of `minidistil/lesson/chapter02.py`, which is
found by its name. A right answer is decorated with `exercise` and gives the exercise its name;
what is known about the answers follows:

    @exercise(cases=lambda: [(rng().standard_normal((3, 4)),)], hint="Two factors.")
    def double(x):
        return 2 * x

    @double.right
    def as_a_sum(x):
        return x + x

    @double.wrong("this is the square")
    def squared(x):
        return x * x

    double.wrong("this is half")(lambda x: double(x) / 4)

An exercise can be called; it then is its solution. `tests/test_lesson.py` checks that each right
answer is accepted, and that each wrong one is refused with its own sentence.
"""

import inspect
import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np


class MistakeError(Exception):
    """A mistake that is found while an attempt runs; its text is printed as the diagnosis."""


def call(attempt: Callable, *args) -> Any:
    """The answer of an attempt, which gets copies of the arrays."""
    with np.errstate(all="ignore"):
        return attempt(*[np.copy(a) if isinstance(a, np.ndarray) else a for a in args])


def rng(seed: int = 0) -> np.random.Generator:
    """The generator of an exercise's inputs: the same numbers in every process."""
    return np.random.default_rng(seed)


class Exercise:
    """What `check`, `hint` and `solution` know about one function of the learner.

    cases: returns the argument tuples with which answers are compared; in at least one of them
    each wrong answer has to differ from the right one.
    returns: names of the returned values where there are several.
    hint, remark: what `hint` prints, and what `solution` prints below the solution.
    run(attempt, *args): how an attempt is run, if it is no plain function; returns what is compared
    and may raise `MistakeError`.
    explained(answer, *args): the diagnosis of an unknown mistake, or None.
    """

    def __init__(
        self,
        right: Any,
        *,
        cases: Callable[[], Sequence[tuple]],
        name: str | None = None,
        returns: Sequence[str] = (),
        hint: str = "",
        remark: str = "",
        run: Callable = call,
        explained: Callable | None = None,
    ):
        self.answer, self.name = right, name or right.__name__
        self.cases, self.returns, self.hint, self.remark = cases, returns, hint, remark
        self.run, self.explained = run, explained
        self.variants: list[Callable] = []  # other right answers
        self.mistakes: dict[str, Callable] = {}  # sentence: wrong answer

    def __call__(self, *args, **options):
        return self.answer(*args, **options)

    def right(self, function: Callable) -> Callable:
        """Declare another right answer."""
        self.variants.append(function)
        return function

    def wrong(self, sentence: str) -> Callable:
        """Declare a wrong answer, and the sentence that says what is wrong with it."""

        def declared(function):
            if sentence in self.mistakes:
                raise ValueError(f"{self.name} has two wrong answers with one sentence: {sentence}")
            self.mistakes[sentence] = function
            return function

        return declared

    def source(self) -> str:
        """The solution as text, without its decorator."""
        lines = inspect.getsource(self.answer).splitlines(keepends=True)
        first = next(i for i, line in enumerate(lines) if line.startswith("def "))
        return "".join(lines[first:])


def exercise(**about) -> Callable[[Callable], Exercise]:
    """Turn a right answer into an exercise; `about` are the options of `Exercise`."""
    return lambda right: Exercise(right, **about)


def exercises() -> dict[str, Exercise]:
    """{name: exercise} of all chapters and of the appendix."""
    found = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(import_module(__package__).__path__)):
        if module.startswith(("chapter", "appendix")):
            values = vars(import_module(f"{__package__}.{module}")).values()
            found |= {value.name: value for value in values if isinstance(value, Exercise)}
    return found


def find(name: str) -> Exercise:
    """The exercise of this name. Raises ValueError with the known names if there is none."""
    known = exercises()
    if name not in known:
        raise ValueError(f"no exercise is named {name!r}; known: {', '.join(known)}")
    return known[name]
