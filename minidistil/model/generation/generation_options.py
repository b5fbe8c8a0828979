"""The options of generation: what a caller gives, else what the model's folder says, else these."""

from minidistil.config.generation_config import RULES
from minidistil.model.generation.logit_rules import Rules
from minidistil.model.generation.token_search import Writing

DEFAULTS = {
    "max_new_tokens": 50, "min_new_tokens": 0, "temperature": 0.0, "top_k": 0, "top_p": 1.0,
    "num_beams": 1, "length_penalty": 1.0, "early_stopping": False, "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}  # fmt: skip
DRAWS, BEAMS = ("temperature", "top_k", "top_p"), ("length_penalty", "early_stopping")


def settled(model, given, read, P, bounded=False):
    """{option: value} for every option in DEFAULTS.

    given: the caller's, None for what is not given. read: tokens that are there before the first
    new one; P: the model's positions, which bound what its folder says. bounded: max_new_tokens is
    P by default, and may be no more. Raises TypeError for an option that is none, ValueError for a
    value that one cannot have.
    """
    if unknown := set(given) - set(DEFAULTS):
        raise TypeError(
            f"{min(unknown)!r} is no option of generation; these are: {', '.join(DEFAULTS)}"
        )
    given = {name: value for name, value in given.items() if value is not None}
    stored = model.generation.options(read)
    if "max_new_tokens" in stored:
        stored["max_new_tokens"] = min(stored["max_new_tokens"], max(1, P - read + 1))
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


def ends_of(model):
    """What ends a text of the model: as its folder says of writing, else of the model."""
    stored = model.generation.eos_token_id
    return model.config.eos_token_id if stored is None else stored


def writing(options, eos):
    """Writing as the options ask for; eos: the word that ends a text, several of them, or None."""
    ends = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    rules = Rules(
        options["repetition_penalty"], options["no_repeat_ngram_size"], options["min_new_tokens"],
        ends,
    )  # fmt: skip
    return Writing(options["max_new_tokens"], ends, rules)


def of_beams(options):
    """The arguments of `search.beam` among the options."""
    return {"beams": options["num_beams"], **{name: options[name] for name in BEAMS}}
