"""predict --lines: one answer a line, as soon as it is computed; invalid items are skipped."""

import json
import re
import sys

from tqdm import tqdm

from minidistil.io.console import Answer, one_line, progress
from minidistil.io.counts import part_of
from minidistil.io.files import jsonable
from minidistil.tasks.base_predictor import BATCH_SIZE

BAD_ITEMS = 2
NUMBER = re.compile(r"^(text|input|image) 0:? ")


def answer_lines(predict, ask, chunks):
    """Prints an answer a line in the order of the items  ->  Answer, which holds the exit code.

    predict: a predictor; ask: items -> its answers; chunks: lists of (place, item or ValueError).
    stderr gives the place and the error of each item without an answer.
    """
    bad = count = 0
    with progress(None, "predicting", unit=" items") as bar:
        for chunk in chunks:
            for place, answer in answered(predict, ask, chunk):
                count += 1
                bar.update()
                with tqdm.external_write_mode(sys.stdout):
                    if isinstance(answer, ValueError):
                        bad += 1
                        print(one_line(f"error: {place}: {answer}"), file=sys.stderr, flush=True)
                    else:
                        print(_json(answer), flush=True)
    if bad:
        print(f"error: {part_of(bad, count, 'item', 'has')} no answer", file=sys.stderr)
    return Answer(None, "", BAD_ITEMS if bad else 0)


def _json(answer):
    """An answer in one line, in ASCII where stdout's encoding lacks one of its characters."""
    answer = jsonable(answer)
    text = json.dumps(answer, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(answer)
    return text


def answered(predict, ask, chunk):
    """A chunk  ->  (place, answer or ValueError), in its order.

    Items of about the same length are computed together; answers are returned in order, each as
    soon as all before it are known.
    """
    answers = {i: x for i, (_, x) in enumerate(chunk) if isinstance(x, ValueError)}
    order = sorted(set(range(len(chunk))) - set(answers), key=lambda i: _size(chunk[i][1]))
    next_out = 0
    for start in range(0, len(order) or 1, BATCH_SIZE):
        some = order[start : start + BATCH_SIZE]
        answers |= zip(some, _together(predict, ask, [chunk[i] for i in some]), strict=True)
        while next_out in answers:
            yield chunk[next_out][0], answers.pop(next_out)
            next_out += 1


def _size(item):
    """The approximate length of an item; items with a pair come after those without."""
    if isinstance(item, dict):
        return 1, sum(len(str(x)) for x in item.values())
    return 0, len(item) if isinstance(item, str) else sum(map(len, item))


def _together(predict, ask, some):
    """[(place, item)]  ->  answers. Where the predictor fails on a group, each item is computed
    alone, so that only the invalid one has no answer."""
    try:
        predict.called = lambda number: some[number][0]
        return ask([item for _, item in some]) if some else []
    except Exception:  # other items follow; an item that also fails alone is named below
        return [_alone(predict, ask, one) for one in some]


def _alone(predict, ask, one):
    try:
        predict.called = lambda number: one[0]
        return ask([one[1]])[0]
    except ValueError as error:  # the place identifies the text
        return ValueError(NUMBER.sub("", str(error)))
    except Exception as error:
        return ValueError(f"fails: {type(error).__name__}: {error}")
