"""Answers of a model for texts: given as arguments, in --data, or line by line on stdin.

The answers have the form of transformers' pipelines; --json prints them as they are, in one list,
and --lines one JSON line each in the order of the items. With --lines a bad item of --data or of
stdin does not stop the others: it has no line, stderr names its place (of stdin and of .jsonl: the
line, from 1) and what is wrong with it, and the exit code is 2 once the others are printed.
"""

import inspect
import json
import sys

from minidistil.cli import tasks
from minidistil.cli.common import Answer, add_inference_options, progress
from minidistil.cli.lines import answer_lines, items_of, numbered_lines, parsed
from minidistil.cli.tasks.extractive_summarization import add_choice_options
from minidistil.cli.teacher import default_teacher
from minidistil.config import read_config
from minidistil.data import documents
from minidistil.data.sources import files_of, records
from minidistil.model.checkpoint import CONFIG
from minidistil.model.heads import task_of
from minidistil.model.pretrained import resolve
from minidistil.pipeline import PREDICTORS, TOGETHER, pipeline

OBJECTS = ("question-answering", "multiple-choice")  # an item is {"question": …, …}
EXAMPLE = '--task feature-extraction --json "A film about trains."'


def add_options(parser):
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--model", metavar="FOLDER", help="or a name on the hub; default: weights/")
    parser.add_argument("--task", help=f"{', '.join(PREDICTORS)}; default: the model's")
    parser.add_argument("--data", metavar="PATH", help="a file or folder of texts")
    parser.add_argument("--text-column", metavar="NAME", help="of a table or of JSON objects")
    parser.add_argument("--top-k", type=int, metavar="K", help="answers a text")
    parser.add_argument(
        "--aggregation-strategy", metavar="S",
        help="token-classification: simple joins pieces to entities, none does not (none)",
    )  # fmt: skip
    parser.add_argument(
        "--out-of-scope", type=float, metavar="P",
        help="text-classification: texts whose best label is less probable are out of scope",
    )  # fmt: skip
    add_choice_options(parser)
    parser.add_argument(
        "--lines", action="store_true", help="one JSON line an answer; bad items do not stop it"
    )
    add_inference_options(parser)


def run(args):
    folder = resolve(args.model or default_teacher())
    task = args.task or task_of(read_config(folder / CONFIG))
    if args.top_k is not None and args.top_k < 1:
        raise ValueError(f"--top-k must be 1 or more, not {args.top_k}")
    if args.lines:
        numbered = _numbered(args, task in OBJECTS)
    else:
        texts = _objects(args) if task in OBJECTS else _texts(args)
    predict = pipeline(task, folder, backend=args.backend, dtype=args.dtype)
    options = _options(args, task, predict)
    if args.lines:
        return answer_lines(lambda some: _answers(predict, some, task, options), numbered)
    answers = []
    for start in progress(range(0, len(texts), TOGETHER), "predicting"):
        some = texts[start : start + TOGETHER]
        answers.extend(_answers(predict, some, task, options))
    describe = tasks.of(task).describe if task in tasks.TASKS else _vectors
    given = [x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in texts]
    lines = [f"{describe(answer)}\t{x}" for x, answer in zip(given, answers, strict=True)]
    return Answer(answers, "\n".join(lines))


def _answers(predict, some, task, options):
    """One answer an item: fill-mask's predictor drops the list around a single one."""
    given = predict(some, **options)
    return [given] if task == "fill-mask" and len(some) == 1 else given


def _numbered(args, objects):
    """(place, item or the ValueError it earns) for --lines."""
    if args.texts:
        raise ValueError("--lines reads --data or stdin; give no texts as arguments")
    if args.data:
        return items_of(args.data, args.text_column, objects)
    numbered = numbered_lines(_stdin())
    return parsed(numbered) if objects else numbered


def _options(args, task, predict):
    """Those that were given, if this task's predictor takes them."""
    names = ("top_k", "aggregation_strategy", "out_of_scope", "sentences", "trigram_blocking")
    given = {name: getattr(args, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name in set(given) - set(inspect.signature(predict).parameters):
        raise ValueError(f"--{name.replace('_', '-')} is not for {task}; leave it out")
    return given


def _objects(args):
    """One JSON object an item, in --data, in the arguments or on stdin."""
    if args.data and not args.texts:
        return [record for path in files_of(args.data) for _, record in records(path, ())]
    found = []
    for number, line in enumerate(_texts(args)):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"item {number} is not a JSON object: {error}") from None
    return found


def _texts(args):
    if args.texts and args.data:
        raise ValueError("give texts as arguments or in --data, not both")
    if args.texts:
        return args.texts
    if args.data:
        return list(documents(args.data, field=args.text_column))
    return [line.strip() for line in _stdin() if line.strip()]


def _stdin():
    """The lines of stdin, of which one at least holds something."""
    if sys.stdin.isatty():
        raise ValueError("there are no texts; give them as arguments, in --data or on stdin")
    try:
        lines = sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"stdin is not UTF-8 at byte {error.start}; convert it") from None
    if not any(line.strip() for line in lines):
        raise ValueError("stdin holds no text; give at least one line")
    return lines


def _vectors(answer):
    return f"{len(answer[0])} vectors of {len(answer[0][0])}"
