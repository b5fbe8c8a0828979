"""generation_config.json: how a folder's model writes texts where the caller says nothing.

    eos_token_id            one word or several that end a text
    decoder_start_token_id  what an encoder–decoder's text begins with, else bos_token_id
    the others              options of the search and of the draws

A folder without the file may have the same fields in its config.json, as older ones do.
Source: Hugging Face's GenerationConfig. Its draws have temperature 1 and top_k 50 where the file
says no more than `do_sample`.
"""

import math
import reprlib
import warnings
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path

from minidistil.files import read_settings

GENERATION = "generation_config.json"
DRAWS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}  # of a file that asks for draws
LACKING = {  # fields that change which words are written, and their values that change nothing
    "min_p": 0.0, "top_h": None, "typical_p": 1.0,
    "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "exponential_decay_length_penalty": None, "suppress_tokens": None,
    "begin_suppress_tokens": None, "sequence_bias": None, "guidance_scale": 1.0,
    "watermarking_config": None, "penalty_alpha": 0.0, "dola_layers": None,
    "diversity_penalty": 0.0, "num_beam_groups": 1, "constraints": None, "force_words_ids": None,
    "stop_strings": None, "token_healing": False,
}  # fmt: skip


@dataclass(frozen=True)
class Generation:
    """What a folder says of writing texts.

    eos: the words that end one, start: what one begins with; None where the config alone says so.
    options: {option of `generate`: value}, those that the folder gives. A decoder's may also have
    max_length and min_length, which count its prompt; see `told`.
    """

    eos: tuple | None = None
    start: int | None = None
    options: dict = field(default_factory=dict)

    @classmethod
    def read(cls, folder, pair):
        """pair: whether the model is an encoder–decoder, whose lengths count the first word.

        Raises ValueError for a value that is none; warns of a field that is not known here.
        """
        path = Path(folder) / GENERATION
        if not path.is_file():
            path = Path(folder) / "config.json"
        fields = {k: v for k, v in read_settings(path).items() if v is not None}
        try:
            eos = token_ids(fields, "eos_token_id")
            start = first_id(fields, "decoder_start_token_id", "bos_token_id")
            options = _options(fields, pair)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        unknown = [
            k for k, neutral in LACKING.items() if fields.get(k, neutral) not in (neutral, [])
        ]
        if _searches(fields) and fields.get("do_sample"):
            unknown.append("do_sample beside num_beams")
        if unknown:
            warnings.warn(
                f"{path}: {', '.join(unknown)} would change what is written, and this version "
                f"leaves them out", stacklevel=4,
            )  # fmt: skip
        return cls(eos, start, options)

    def told(self, read):
        """The options for new words alone, where `read` tokens are there before the first."""
        found = dict(self.options)
        for name, least in (("max", 1), ("min", 0)):
            length = found.pop(f"{name}_length", None)
            if length is not None:
                found.setdefault(f"{name}_new_tokens", max(least, length - read))
        return found

    def given(self, parameters):
        """Those of the options that a generator with these parameters takes."""
        return {name: value for name, value in self.options.items() if name in parameters}

    def to_dict(self):
        """The fields as generation_config.json holds them."""
        ids = {"eos_token_id": self.eos and list(self.eos), "decoder_start_token_id": self.start}
        draws = {"do_sample": True} if "temperature" in self.options else {}
        return {k: v for k, v in ids.items() if v is not None} | draws | self.options


def token_ids(fields, name):
    """One id or a list of them  ->  a tuple, None without any. Raises ValueError for another."""
    value = fields.get(name)
    found = value if isinstance(value, list | tuple) else [value]
    if value is None or not found:
        return None
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in found):
        raise ValueError(f"{name} must be an id or a list of ids, not {reprlib.repr(value)}")
    return tuple(found)


def first_id(fields, *names):
    """The first of these fields that is given, an id; None without any."""
    for name in names:
        if (found := token_ids(fields, name)) is not None:
            if len(found) > 1:
                raise ValueError(f"{name} must be one id, not {reprlib.repr(fields[name])}")
            return found[0]
    return None


def _searches(fields):
    return fields.get("num_beams", 1) != 1


def _options(fields, pair):
    """The options of `generate` among the fields of a config file."""
    for name in fields.keys() & RULES.keys():
        check(name, fields[name])
    draws = DRAWS if fields.get("do_sample") and not _searches(fields) else {}
    names = [n for n in RULES if n != "do_sample" and (draws or n not in DRAWS)]
    options = draws | {name: fields[name] for name in names if name in fields}
    return Generation(options=options).told(1) if pair else options


def check(name, value):
    """Raises ValueError for a value that an option of `generate` cannot have."""
    fits, rule = RULES[name]
    if not fits(value):
        raise ValueError(f"{name} must be {rule}, not {reprlib.repr(value)}")


def _whole(least):
    """A test for whole numbers from `least` up, and its rule."""
    return (
        lambda x: isinstance(x, Integral) and not isinstance(x, bool) and x >= least,
        f"a whole number from {least} up",
    )


def _number(fits, rule):
    """A test for finite numbers that fit, and its rule."""
    return (
        lambda x: isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x) and fits(x),
        rule,
    )


RULES = {
    "max_new_tokens": _whole(1), "max_length": _whole(1), "min_new_tokens": _whole(0),
    "min_length": _whole(0), "do_sample": (lambda x: isinstance(x, bool), "true or false"),
    "temperature": _number(lambda x: x >= 0, "a number from 0 up"), "top_k": _whole(0),
    "top_p": _number(lambda x: 0 < x <= 1, "a share, top_p above 0 and at most 1"),
    "num_beams": _whole(1), "length_penalty": _number(lambda x: True, "a number"),
    "early_stopping": (lambda x: isinstance(x, bool) or x == "never", "true, false or 'never'"),
    "repetition_penalty": _number(lambda x: x > 0, "a number above 0"),
    "no_repeat_ngram_size": _whole(0),
}  # fmt: skip
