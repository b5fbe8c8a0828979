"""predict --lines: an answer a line, and a bad item costs its own line only."""

import json
import sys

from minidistil.cli.common import Answer, progress
from minidistil.data import documents
from minidistil.data.sources import files_of, kind_of, lines
from minidistil.pipeline import TOGETHER

BAD_ITEMS = 2


def numbered_lines(texts):
    """Lines of stdin  ->  (place, line) of those that hold something."""
    return [(f"line {n}", text.strip()) for n, text in enumerate(texts, 1) if text.strip()]


def items_of(path, column, objects):
    """(place, item or the ValueError it earns) of a file or folder of texts or of objects."""
    found = []
    for file in files_of(path):
        if kind_of(file) == ".jsonl":
            given = [(f"{file} line {n}", x) for n, x in lines(file) if x.strip()]
            found += [
                (place, _read(x, None if objects else column or "text")) for place, x in given
            ]
        elif objects:
            raise ValueError(f"{file} must hold one JSON object a line; name it .jsonl")
        else:
            found += [
                (f"{file} text {n}", x) for n, x in enumerate(documents(file, field=column), 1)
            ]
    return found


def parsed(numbered):
    """(place, line)  ->  (place, the JSON object of the line, or the ValueError it earns)."""
    return [(place, _read(line, None)) for place, line in numbered]


def _read(line, column):
    try:
        item = json.loads(line)
    except ValueError as error:
        return ValueError(f"is not JSON: {error}")
    if not isinstance(item, dict):
        return ValueError(f"must be a JSON object, not a {type(item).__name__}")
    if column is None:
        return item
    if not isinstance(item.get(column), str):
        return ValueError(f"has no text named {column!r}; it has {', '.join(item) or 'nothing'}")
    return item[column]


def answer_lines(predict, numbered):
    """predict: items -> answers; numbered: (place, item or ValueError)  ->  Answer.

    Items are computed together. Where the predictor refuses some, each is asked alone, so that
    the refusal falls on the one that earned it.
    """
    found = []
    for start in progress(range(0, len(numbered), TOGETHER), "predicting"):
        some = numbered[start : start + TOGETHER]
        good = [item for _, item in some if not isinstance(item, ValueError)]
        try:
            answers = iter(predict(good) if good else [])
        except ValueError:
            answers = iter([_alone(predict, item) for item in good])
        found += [(place, x if isinstance(x, ValueError) else next(answers)) for place, x in some]
    bad = [(place, x) for place, x in found if isinstance(x, ValueError)]
    for place, error in bad:
        print(f"error: {place}: {' '.join(str(error).split())}", file=sys.stderr)
    if bad:
        print(f"error: {len(bad)} of {len(found)} items have no answer", file=sys.stderr)
    good = [x for _, x in found if not isinstance(x, ValueError)]
    text = "\n".join(json.dumps(x, ensure_ascii=False) for x in good)
    return Answer(good, text, BAD_ITEMS if bad else 0)


def _alone(predict, item):
    try:
        return predict([item])[0]
    except ValueError as error:
        return error
