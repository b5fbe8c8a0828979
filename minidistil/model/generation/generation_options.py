"""The options of generation: the caller's, else those of the model's folder, else the defaults."""

from collections.abc import Mapping
from typing import Any

from minidistil.config.generation_config import RULES
from minidistil.model.generation.logit_rules import LogitRules
from minidistil.model.generation.token_search import BeamOptions, SearchLimits

DEFAULTS = {
    "max_new_tokens": 50, "min_new_tokens": 0, "temperature": 0.0, "top_k": 0, "top_p": 1.0,
    "num_beams": 1, "length_penalty": 1.0, "early_stopping": False, "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}  # fmt: skip
SAMPLING = ("temperature", "top_k", "top_p")


def resolved_options(model: Any, given: Mapping, prompt: int, P: int, bounded: bool = False):
    """{option: value} for every option in DEFAULTS.

    given: the caller's options; None means not given. prompt: the tokens before the first new one;
    P: the model's positions, which bound the folder's max_new_tokens. bounded: max_new_tokens is P
    by default and at most P.
    Raises TypeError for an unknown option, ValueError for a value out of range.
    """
    if unknown := set(given) - set(DEFAULTS):
        raise TypeError(
            f"{min(unknown)!r} is no option of generation; these are: {', '.join(DEFAULTS)}"
        )
    given = {name: value for name, value in given.items() if value is not None}
    stored = model.generation.options(prompt)
    if "max_new_tokens" in stored:
        stored["max_new_tokens"] = min(stored["max_new_tokens"], max(1, P - prompt + 1))
    limits = {"num_beams": (model.config.vocab_size // 2, "half the words")}
    found = DEFAULTS | ({"max_new_tokens": P} if bounded else {}) | stored | given
    if bounded:
        limits["max_new_tokens"] = P, "the positions"
    for name, value in found.items():
        (fits, rule), (most, why) = RULES[name], limits.get(name, (None, None))
        if most is not None:
            rule = f"a whole number, 1 to {most}, {why}"
        if not fits(value) or (most is not None and value > most):
            raise ValueError(f"{name} must be {rule}, not {value!r}")
    if found["num_beams"] > 1 and found["temperature"] > 0:
        raise ValueError(
            f"num_beams {found['num_beams']} with temperature {found['temperature']}: a beam draws "
            f"no words; give temperature 0, or num_beams 1"
        )
    return found


def eos_of(model: Any) -> int | tuple | None:
    """The ids that end a text: those of generation_config.json, else of the model's config."""
    stored = model.generation.eos_token_id
    return model.config.eos_token_id if stored is None else stored


def search_limits(options: Mapping, eos: int | tuple | None) -> SearchLimits:
    """The SearchLimits of these options. eos: an id, several of them, or None."""
    eos = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    names = ("repetition_penalty", "no_repeat_ngram_size", "min_new_tokens")
    rules = LogitRules(*(options[name] for name in names), eos)
    return SearchLimits(options["max_new_tokens"], eos, rules)


def beam_options(options: Mapping) -> BeamOptions:
    """The BeamOptions of these options."""
    return BeamOptions(*(options[n] for n in ("num_beams", "length_penalty", "early_stopping")))
