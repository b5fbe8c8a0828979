"""Generation options that a model's folder sets: those of transformers' `generate`.

They are read from generation_config.json, in older folders from config.json. Options that a caller
gives take precedence.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

from minidistil.io.files import read_settings

GENERATION = "generation_config.json"
TOP_K = 50  # transformers' default for sampling without a given top_k
# Options of transformers that are not implemented here: {name: values that have no effect}. None
# has no effect for any of them.
UNSUPPORTED = {
    "min_p": (0,), "top_h": (), "typical_p": (1,), "epsilon_cutoff": (0,), "eta_cutoff": (0,),
    "encoder_repetition_penalty": (1,), "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],), "force_words_ids": ([],), "constraints": ([],),
    "forced_bos_token_id": (), "forced_eos_token_id": (), "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],), "exponential_decay_length_penalty": (), "sequence_bias": (),
    "guidance_scale": (1,), "diversity_penalty": (0,), "num_beam_groups": (1,),
    "penalty_alpha": (0,), "stop_strings": ([],), "watermarking_config": (),
    "num_return_sequences": (1,), "max_time": (), "dola_layers": (),
}  # fmt: skip


@dataclass(frozen=True)
class GenerationConfig:
    """Options under transformers' names; None: not set by the folder.

    max_length and min_length include the tokens before the first new one: the prompt, or a
    decoder's start token. Raises ValueError for a value that an option cannot have.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    min_length: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | str | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    eos_token_id: int | tuple | None = None

    def __post_init__(self) -> None:
        for name, (fits, rule) in RULES.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise ValueError(f"{name} must be {rule}, not {value!r}")

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Take the options from the fields of a JSON object and ignore the other fields."""
        known = {f.name: given[f.name] for f in fields(cls) if given.get(f.name) is not None}
        if isinstance(known.get("eos_token_id"), list):
            known["eos_token_id"] = tuple(known["eos_token_id"])
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The options that are set, by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            n: list(x) if isinstance(x, tuple) else x for n, x in found.items() if x is not None
        }

    def options(self, read: int) -> dict[str, Any]:
        """Options for generating after `read` tokens, with lengths that count new tokens only.

        temperature, top_k and top_p are included only where do_sample is true.
        """
        names = ("num_beams", "length_penalty", "early_stopping", "repetition_penalty",
                 "no_repeat_ngram_size", "max_new_tokens", "min_new_tokens")  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        if self.max_new_tokens is None and self.max_length is not None:
            found["max_new_tokens"] = max(1, self.max_length - read)
        if self.min_new_tokens is None and self.min_length is not None:
            found["min_new_tokens"] = max(0, self.min_length - read)
        if self.do_sample:
            found["temperature"] = 1.0 if self.temperature is None else self.temperature
            found["top_k"] = TOP_K if self.top_k is None else self.top_k
            found["top_p"] = self.top_p
        return {name: value for name, value in found.items() if value is not None}


def read_generation(folder: str | Path) -> GenerationConfig:
    """The generation options of a model's folder.

    Warns of options that are not implemented. Raises ValueError, naming the file, for a value that
    an option cannot have.
    """
    path, own = Path(folder) / GENERATION, True
    if not path.is_file():
        path, own = Path(folder) / "config.json", False
    given = read_settings(path)
    left = [name for name, neutral in UNSUPPORTED.items()
            if given.get(name) is not None and given[name] not in neutral]  # fmt: skip
    if left:
        warnings.warn(
            f"{path}: {', '.join(left)} is not applied here; texts differ from transformers'",
            stacklevel=3,
        )
    try:
        # eos_token_id in config.json belongs to the model's config, not to generation.
        return GenerationConfig.from_dict(given if own else {**given, "eos_token_id": None})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def whole(least: int) -> tuple[Callable[[Any], bool], str]:
    """A predicate for integers of at least `least`, and its rule in words."""
    return (
        lambda x: isinstance(x, Integral) and not isinstance(x, bool) and x >= least,
        f"a whole number from {least} up",
    )


def number(fits: Callable[[Any], bool], rule: str) -> tuple[Callable[[Any], bool], str]:
    """A predicate for finite numbers that satisfy `fits`, and its rule in words."""
    return (
        lambda x: isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x) and fits(x),
        rule,
    )


def _ends(x):
    fits, _ = whole(0)
    return bool(x) and all(map(fits, x)) if isinstance(x, tuple) else fits(x)


RULES = {
    "max_new_tokens": whole(1), "max_length": whole(1), "min_new_tokens": whole(0),
    "min_length": whole(0), "do_sample": (lambda x: isinstance(x, bool), "true or false"),
    "temperature": number(lambda x: x >= 0, "a number from 0 up"), "top_k": whole(0),
    "top_p": number(lambda x: 0 < x <= 1, "a share, top_p above 0 and at most 1"),
    "num_beams": whole(1), "length_penalty": number(lambda x: True, "a number"),
    "early_stopping": (lambda x: x in (True, False, "never"), "true, false or 'never'"),
    "repetition_penalty": number(lambda x: x > 0, "a number above 0"),
    "no_repeat_ngram_size": whole(0), "eos_token_id": (_ends, "a token's id, or a list of them"),
}  # fmt: skip
