"""The catalogue of mistakes: each is a function that computes the wrong numbers, and its message.

A mistake has the signature of a reference op in `check/reference_ops.py`, so that the reference can
run with it instead of that op. Some mistakes have several forms, such as values of ε: `values`
lists them, and the function takes one as the keyword `value`.
"""

from collections.abc import Callable
from dataclasses import dataclass

CATALOGUE = []


@dataclass(frozen=True)
class Mistake:
    """One known mistake."""

    id: str
    op: str  # the reference op that it replaces
    says: str  # the sentence; {} is the form
    yours: str  # what was computed
    right: str  # what the reference computes
    fix: str
    values: object  # the forms: a tuple, or a function of `Known`
    wrong: Callable

    def forms(self, known=None):
        """(value, function with the op's own signature) of every form."""
        values = self.values(known) if callable(self.values) else self.values
        for value in values:
            yield value, self.wrong if value is None else self._with(value)

    def _with(self, value):
        return lambda *args, **fixed: self.wrong(*args, **fixed, value=value)

    def message(self, value=None):
        """The sentence, both formulas and the fix."""
        form = value if isinstance(value, str | int | float) else ""
        lines = (self.says, f"yours: {self.yours}", f"right: {self.right}", f"fix: {self.fix}")
        return "\n".join(line.replace("{}", format_value(form)) for line in lines)


def format_value(value):
    """A form as text: 1e-05, not 0.00001."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def mistake(id, op, *, says, yours, right, fix, values=(None,)):
    """Decorator: enter a function into the catalogue."""

    def enter(wrong):
        CATALOGUE.append(Mistake(id, op, says, yours, right, fix, values, wrong))
        return wrong

    return enter
