"""The values of a JSON file, each checked when it is read.

A str with an unambiguous meaning is converted: "512" is 512, "false" is false. Any other value of
the wrong type raises a ValueError that names the file, the key, the value and what is allowed.
"""

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from minidistil.io.files import read_settings

TOO_LARGE = 2**63  # for a length or an id
DIGITS = 18  # of a number that is given as a str
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class Fields:
    """A file with one JSON object. A missing file has no keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = read_settings(path) if path.exists() else {}

    def get(self, key: str) -> Any:
        """The value as stored, None where absent."""
        return self.values.get(key)

    def refuse(self, key: str, allowed: str, value: Any = None) -> ValueError:
        """The ValueError for the value of a key, or for `value`, a part of it."""
        value = _SHORT.repr(self.values.get(key) if value is None else value)
        return ValueError(f"{self.path}: {key[:60]} is {value}, but must be {allowed}; correct it")

    def flag(self, key: str) -> bool | None:
        """True or False, None where absent."""
        return self._flag(key, self.values.get(key))

    def _flag(self, key, value):
        if value is None or isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise self.refuse(key, "true or false", value)

    def count(self, key: str, least: int = 0, limit: int | None = None) -> int | None:
        """An integer of at least `least`; None where absent and where it is `limit` or more."""
        return self.whole(key, self.values.get(key), least, limit)

    def whole(self, key: str, value: Any, least: int = 0, limit: int | None = None) -> int | None:
        """As `count`, for `value`, a part of the key's value."""
        number = value
        if isinstance(value, str) and value.strip().isascii() and len(value) <= DIGITS:
            number = int(value) if value.strip().isdigit() else value
        if number is None or (limit and _is_number(number) and number >= limit):
            return None
        if not _is_number(number) or number != number // 1 or not least <= number < TOO_LARGE:
            raise self.refuse(key, f"a whole number of at least {least}", value)
        return int(number)

    def text(self, key: str) -> str | None:
        """A non-empty str, None where absent."""
        value = self.values.get(key)
        return None if value is None else self._text(key, value)

    def _text(self, key, value):
        if not isinstance(value, str) or not value:
            raise self.refuse(key, "a string that is not empty", value)
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise self.refuse(key, "text without lone surrogates", value)
        return value

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """One of the allowed strings; the first where absent."""
        value = self.values.get(key, allowed[0])
        if value not in allowed:
            raise self.refuse(key, " or ".join(allowed))
        return value

    def list(self, key: str) -> Sequence[Any]:
        """A list, empty where absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise self.refuse(key, "a list")
        return value or []

    def object(self, key: str) -> dict[str, Any]:
        """A dict, empty where absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(key, "an object")
        return value or {}

    def token(self, key: str, value: Any, special: bool) -> AddedToken:
        """A token: a str, or an object with its content and its matching options.

        special: makes it a special token even where the object does not.
        """
        if isinstance(value, str):
            return AddedToken(self._text(key, value), special=special)
        if not isinstance(value, dict) or not isinstance(value.get("content"), str):
            raise self.refuse(key, "a string, or an object whose content is one", value)
        flags = {name: self._flag(key, value.get(name)) for name in FLAGS}
        flags["special"] = special or flags["special"]
        given = {name: flag for name, flag in flags.items() if flag is not None}
        return AddedToken(self._text(key, value["content"]), **given)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)
