"""Numbers of things in messages: "1 step", "2,000 steps", "1 of 3 texts is", "2 of 3 texts are"."""

PLURAL_VERBS = {"is": "are", "has": "have"}


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is given in the singular."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def part_of(number: int, total: int, noun: str, verb: str) -> str:
    """Some of a total, with the verb that follows, which is given in the singular."""
    plural = PLURAL_VERBS.get(verb, verb.removesuffix("s"))
    return f"{number:,} of {counted(total, noun)} {verb if number == 1 else plural}"
