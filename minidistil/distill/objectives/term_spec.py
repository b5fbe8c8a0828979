"""Terms as text, for the command line: NAME:option=value:option=value.

hidden:projection=each:weight=0.5       attention:measure=kl:layers=last
relations:pairs=qk,vv:heads=12          hidden:layers=1-2,3-4
"""

import dataclasses

from minidistil.distill.objectives import TERMS


def term_of(text: str):
    """ "hidden:weight=0.5"  ->  HiddenMSE(weight=0.5). Raises ValueError for an unknown term or
    option, or a value of another type."""
    name, *options = text.split(":")
    if name not in TERMS:
        raise ValueError(f"a term must be one of {', '.join(TERMS)}, not {name!r}")
    kinds = {field.name: field.default for field in dataclasses.fields(TERMS[name])}
    chosen = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in kinds:
            raise ValueError(
                f"the term {name} has the options {', '.join(kinds)}, given as NAME=VALUE; not "
                f"{option!r}"
            )
        try:
            chosen[key] = _value(key, value, kinds[key])
        except ValueError:
            raise ValueError(f"{option!r} is no value for the term {name}: {value!r}") from None
    return TERMS[name](**chosen)


def _value(key, text, default):
    if key == "layers" and "-" in text:
        return tuple(tuple(int(i) for i in pair.split("-")) for pair in text.split(","))
    if key == "heads":
        return int(text)
    if isinstance(default, bool):
        return bool(("false", "true").index(text))  # a ValueError for anything else
    if isinstance(default, tuple):
        return tuple(text.split(","))
    return type(default)(text)
