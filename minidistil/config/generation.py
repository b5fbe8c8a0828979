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
WHOLE = {
    "num_beams": 1,
    "max_length": 2,
    "max_new_tokens": 1,
    "no_repeat_ngram_size": 0,
    "top_k": 0,
}  # the least
REALS = ("length_penalty", "repetition_penalty", "temperature", "top_p")
DRAWS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}  # of a file that asks for draws
LACKING = {  # fields that change which words are written, and their values that change nothing
    "min_length": 0, "min_new_tokens": 0, "min_p": None, "top_h": None, "typical_p": 1.0,
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
    options: {parameter of a generator: value}, those that the folder gives.
    """

    eos: tuple | None = None
    start: int | None = None
    options: dict = field(default_factory=dict)

    @classmethod
    def read(cls, folder, pair):
        """pair: whether the model is an encoder–decoder, whose texts are searched, never drawn.

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
        unknown = [k for k, neutral in LACKING.items() if fields.get(k, neutral) != neutral]
        if not isinstance(fields.get("early_stopping", False), bool):
            unknown.append("early_stopping")
        if pair and fields.get("do_sample"):
            unknown.append("do_sample")
        if unknown:
            warnings.warn(
                f"{path}: {', '.join(unknown)} would change what is written, and this version "
                f"leaves them out", stacklevel=4,
            )  # fmt: skip
        return cls(eos, start, options)

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


def _options(fields, pair):
    """The generator's parameters among the fields of a config file."""
    draws = {} if pair or not fields.get("do_sample") else DRAWS
    names = [n for n in (*WHOLE, *REALS) if n != "max_length" and (draws or n not in DRAWS)]
    options = draws | {name: _number(name, fields[name]) for name in names if name in fields}
    if pair and "max_length" in fields:  # which counts the word that the text begins with
        longest = _number("max_new_tokens", _number("max_length", fields["max_length"]) - 1)
        options = {"max_new_tokens": longest} | options
    if isinstance(fields.get("early_stopping"), bool):
        options["early_stopping"] = fields["early_stopping"]
    return options


def _number(name, value):
    least = WHOLE.get(name)
    kind = Real if least is None else Integral
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {reprlib.repr(value)}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value
