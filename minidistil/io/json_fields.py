"""The values of a JSON file, each checked as it is read.

A value that can mean one thing only is that thing: "512" is 512, "false" is false. Every other is
refused in a line that names the file, the key, the value and what is allowed.
"""

import reprlib

from tokenizers import AddedToken

from minidistil.io.files import read_settings

MOST = 2**63  # no length and no id is as large
DIGITS = 18  # of a number that is written as text
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class Fields:
    """A file with one JSON object; a file that is not there has no keys."""

    def __init__(self, path):
        self.path = path
        self.values = read_settings(path) if path.exists() else {}

    def get(self, key):
        """The value as it stands; None where there is none."""
        return self.values.get(key)

    def refuse(self, key, allowed, value=None):
        """The ValueError for a key, or for a value that is part of the key's."""
        value = _SHORT.repr(self.values.get(key) if value is None else value)
        return ValueError(f"{self.path}: {key[:60]} is {value}, but must be {allowed}; correct it")

    def flag(self, key):
        """True, False, or None where nothing is said."""
        return self._flag(key, self.values.get(key))

    def _flag(self, key, value):
        if value is None or isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise self.refuse(key, "true or false", value)

    def count(self, key, least=0, limit=None):
        """A whole number of at least `least`; None where nothing is said or it reaches limit."""
        return self.whole(key, self.values.get(key), least, limit)

    def whole(self, key, value, least=0, limit=None):
        """The same for a value that is part of the key's."""
        number = value
        if isinstance(value, str) and value.strip().isascii() and len(value) <= DIGITS:
            number = int(value) if value.strip().isdigit() else value
        if number is None or (limit and _is_number(number) and number >= limit):
            return None
        if not _is_number(number) or number != number // 1 or not least <= number < MOST:
            raise self.refuse(key, f"a whole number of at least {least}", value)
        return int(number)

    def text(self, key):
        """A string of at least one character; None where nothing is said."""
        value = self.values.get(key)
        return None if value is None else self._text(key, value)

    def _text(self, key, value):
        if not isinstance(value, str) or not value:
            raise self.refuse(key, "a string that is not empty", value)
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise self.refuse(key, "text without lone surrogates", value)
        return value

    def choice(self, key, allowed):
        """One of the allowed strings; the first where nothing is said."""
        value = self.values.get(key, allowed[0])
        if value not in allowed:
            raise self.refuse(key, " or ".join(allowed))
        return value

    def list(self, key):
        """A list; empty where nothing is said."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise self.refuse(key, "a list")
        return value or []

    def object(self, key):
        """An object; empty where nothing is said."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(key, "an object")
        return value or {}

    def token(self, key, value, special):
        """A piece: a string, or an object with its content and how it is found in a text.

        special: whether it is a special token whatever the object says.
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
