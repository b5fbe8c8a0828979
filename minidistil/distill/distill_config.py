"""DistillConfig: the temperature, the weights of the losses, and the auxiliary losses."""

import dataclasses
from dataclasses import dataclass

from minidistil.distill import weight_schedules
from minidistil.distill.conventions import CONVENTIONS, OURS
from minidistil.distill.objectives import TERMS
from minidistil.distill.objectives.term_spec import term_of
from minidistil.io.arguments import number, one_of, switch
from minidistil.io.limits import short


@dataclass(frozen=True)
class DistillConfig:
    """Temperature and weights of the losses; the defaults are those of the released DistilBERT.

    Raises ValueError for a value that is out of range or of another type.
    """

    temperature: float = 2.0
    alpha_ce: float = 5.0  # soft targets
    alpha_mlm: float = 2.0  # masked words
    alpha_cos: float = 1.0  # directions of the last hidden states
    alpha_mse: float = 0.0  # logits
    alpha_clm: float = 0.0  # next words, of a decoder; it has no masked ones
    restrict_ce_to_mask: bool = False  # ce and mse at the labelled tokens only
    alpha_hard: float = 2.0  # a classifier's labels, where a batch has them
    convention: str = OURS  # normalisation of the soft-target loss: a name in `CONVENTIONS`
    hard_targets: bool = False  # ce of a classifier: the teacher's argmax is the label
    temperature_by: str = ""  # a temperature for each row: see `conventions.row_temperatures`
    terms: tuple = ()  # auxiliary losses or their names: see `distill.objectives`
    vary: tuple = ()  # numbers above that change during a run: see `weight_schedules`

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float):
                _check_number(field.name, value)
            elif isinstance(field.default, bool):
                switch(field.name, value)
            elif field.default == () and not isinstance(value, list | tuple | None):
                raise ValueError(f"{field.name} must be a list, not {short(value)}")
        one_of("convention", self.convention, CONVENTIONS)
        self._check_row_temperatures()
        object.__setattr__(self, "terms", tuple(_term(term) for term in self.terms or ()))
        object.__setattr__(self, "vary", tuple(self.vary or ()))
        self._check_schedules()

    def _check_row_temperatures(self):
        if not isinstance(self.temperature_by, str | None):
            raise ValueError(f"temperature_by must be a rule, not {self.temperature_by!r}")
        if self.temperature_by and self.convention != "textbrewer":
            raise ValueError(
                f"temperatures of single texts are TextBrewer's, which leaves τ² out: they need "
                f"convention textbrewer, not {self.convention}"
            )

    def _check_schedules(self):
        """The numbers at both ends of a run are in range, as those of a constant are."""
        numbers = {f.name for f in dataclasses.fields(self) if isinstance(f.default, float)}
        for share in (0.0, 1.0):
            for name, value in weight_schedules.values(self.vary, share).items():
                if name not in numbers:
                    raise ValueError(
                        f"what varies must be one of {', '.join(sorted(numbers))}, not {name!r}"
                    )
                _check_number(name, value)

    def at(self, share: float) -> "DistillConfig":
        """The config at this share of a run, 0 to 1, with constants only."""
        if not self.vary:
            return self
        return dataclasses.replace(self, vary=(), **weight_schedules.values(self.vary, share))

    def needs_teacher(self) -> bool:
        """Whether any loss of a text reads the teacher's outputs."""
        return bool(self.alpha_ce or self.alpha_mse or self.alpha_cos or self.terms)


def _check_number(name, value):
    """A temperature is above 0; a weight is 0 or more."""
    number(name, value, 0, above=name == "temperature")


def _term(term):
    """An auxiliary loss, or its name as `term_spec` reads it  ->  the auxiliary loss."""
    if not isinstance(term, (str, *TERMS.values())):
        raise ValueError(f"a term is one of {', '.join(TERMS)}, or its name, not {short(term)}")
    return term_of(term) if isinstance(term, str) else term
