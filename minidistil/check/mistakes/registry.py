"""A catalogue of mistakes: each is the function that computes the wrong numbers, and what to say.

A mistake has the signature of the op it stands for in `right`, so that the reference can run with
it in that op's place. Some exist in several forms (which ε?): `values` lists them, and the function
takes one as the keyword `value`.
"""

from collections.abc import Callable
from dataclasses import dataclass

CATALOGUE = []


@dataclass(frozen=True)
class Mistake:
    """One known mistake."""

    id: str
    op: str  # the function of `right` that it stands for
    says: str  # the sentence; {} is the form
    yours: str  # what was computed
    right: str  # what should be
    fix: str
    values: object  # the forms: a tuple, or a function of what is known of the module
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
        said = value if isinstance(value, str | int | float) else ""
        lines = (self.says, f"yours: {self.yours}", f"right: {self.right}", f"fix: {self.fix}")
        return "\n".join(line.replace("{}", format_value(said)) for line in lines)


def format_value(value):
    """A form as it is read: 1e-05, not 0.00001."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def mistake(id, op, *, says, yours, right, fix, values=(None,)):
    """Enter the function below into the catalogue."""

    def enter(wrong):
        CATALOGUE.append(Mistake(id, op, says, yours, right, fix, values, wrong))
        return wrong

    return enter
