"""Names in braces in the commands of a row: "{train}" stands for a file, "{seed}" for a number."""

import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"{(\S*?)}")


def placeholders(command: str) -> list[str]:
    """The names in braces in a command."""
    return PLACEHOLDER.findall(command)


def filled(word: str, names: Mapping) -> str:
    """A word of a command, with what its placeholders stand for."""
    return PLACEHOLDER.sub(lambda found: str(names[found[1]]), word)
