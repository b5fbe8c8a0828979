"""The argparse parser of a command: errors on one line, models by place or by option, recipes."""

import argparse
import os
from difflib import get_close_matches

PATHS = ("DIR", "FILE", "FOLDER", "PATH")  # the placeholder of options with a value


class Parser(argparse.ArgumentParser):
    """argparse with errors on one line, as all errors here.

    presets: the name of a `--recipe`  ->  {option: value}, for the options that are not given on
    the command line. needs_model: whether a command without a model is refused. texts: the
    positional arguments of which the first is the model if it is a model's folder; see `add_model`.
    """

    presets, needs_model, texts = None, False, None

    def parse_args(self, args=None, namespace=None):
        found = self._parsed(args, namespace)
        if second := vars(found).pop("second_model", None):
            self.error(f"the model is given twice, {found.model} and {second}")
        if getattr(found, "recipe", None):
            options = self.presets(found.recipe)
            vars(found).update(options | self.given(args, options))
        for action in self._actions:
            value = getattr(found, action.dest, None)
            if action.metavar in PATHS and "" in (value if isinstance(value, list) else [value]):
                name = max(action.option_strings, key=len, default=action.dest)
                self.error(f"{name} is empty; name a {action.metavar.lower()}")
        if self.texts:
            self._take_model(found)
        if self.needs_model and not found.model:
            self.error("a model is needed: its folder or --model FOLDER")
        return found

    def _parsed(self, args, namespace):
        """Options may stand between positional arguments, except with `--`, which ends options."""
        literal = "--" in (args or ())
        return (super().parse_args if literal else self.parse_intermixed_args)(args, namespace)

    def _take_model(self, found):
        """Without --model, a first text that is a model's folder is the model."""
        texts = getattr(found, self.texts)
        if texts and not found.model and os.path.isfile(os.path.join(texts[0], "config.json")):
            found.model = texts.pop(0)
            needed = [a for a in self._actions if a.dest == self.texts and a.nargs == "+"]
            if needed and not texts:
                self.error(f"the following arguments are required: {needed[0].metavar}")

    def given(self, args, names):
        """The options that the command line gives, {name: value}."""
        unset = []  # a list, because options that may be given again append to a copy of it
        start = argparse.Namespace(**dict.fromkeys(names, unset))
        found, _ = self.parse_known_args(args, start)
        return {n: x for n in names if (x := getattr(found, n)) is not unset}

    def error(self, message):
        known = [*self._option_string_actions]
        unknown = next((word for word in message.split() if word.startswith("--")), "")
        meant = meaning(unknown.partition("=")[0], [x for x in known if x.startswith("--")])
        asked = f" ({meant})" if meant and message.startswith("unrecognized") else ""
        raise ValueError(f"{message}{asked}; see {self.prog} --help")


class OneModel(argparse.Action):
    """Stores a model, by place or by option. A second one is refused by `parse_args`, after unknown
    options, whose values look like it."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest, None)
        second = isinstance(before, str) and before != values
        setattr(namespace, "second_model" if second else self.dest, values)


def add_model(parser, text="or a name on the hub; default: weights/", *, dest="model",
              several=False, texts=None, required=False):  # fmt: skip
    """The model of a command: as its first argument or as --model.

    several: it may be given again, and is a list. texts: positional arguments of the command; the
    first of them is the model only if it is a model's folder.
    """
    parser.texts, parser.needs_model = texts, required
    if texts:
        text += "; a folder may also be the first argument"
    else:
        parser.add_argument(
            dest, nargs="*" if several else "?", default=argparse.SUPPRESS, metavar="FOLDER",
            action="extend" if several else OneModel, help=f"the same as --{dest}",
        )  # fmt: skip
    parser.add_argument(
        f"--{dest}", metavar="FOLDER", action="append" if several else OneModel, help=text
    )


def meaning(word, known):
    """ "did you mean distill?" for "distil"; "" where no known word is close."""
    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else ""
