"""Numbers of things in messages: "1 step", "2,000 steps", "1 of 3 texts is", "2 of 3 texts are"."""

import re

PLURAL_VERBS = {"is": "are", "has": "have"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """A number with its noun, and the verb that follows, if any; both are given in the singular."""
    text = f"{number:,} {noun if number == 1 else _plural(noun)}"
    return f"{text} {_agreeing(verb, number)}" if verb else text


def part_of(number: int, total: int, noun: str, verb: str) -> str:
    """Some of a total, with the verb that follows, which is given in the singular."""
    return f"{number:,} of {counted(total, noun)} {_agreeing(verb, number)}"


def _plural(noun):
    """A text gives texts, a quantity quantities, a batch batches."""
    if re.search("[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("ch", "sh", "s", "x")) else "s")


def _agreeing(verb, number):
    return verb if number == 1 else PLURAL_VERBS.get(verb, verb.removesuffix("s"))
