"""The inputs of a predictor: a stream of items with their places, from arguments, files or stdin.

An item is a text; or an image, an array. A row or a line that is a JSON object gives what the task
needs: the whole object for questions, a text and its pair for classes, a text or the list of its
sentences for summaries. An invalid item is replaced by its ValueError.
"""

import sys
from itertools import chain, islice
from pathlib import Path

from minidistil.data.file_rows import decoded, kind_of, lines_of, object_of
from minidistil.data.sources import files_of, pair_of, rows_of, text_of
from minidistil.data.text_pairs import NAMES
from minidistil.io import limits
from minidistil.model.heads import EXTRACT
from minidistil.model.vision.vision_encoder import IMAGES
from minidistil.tasks.base_predictor import BATCH_SIZE
from minidistil.tasks.image_classification.data import pictures
from minidistil.tasks.question_answering.data import squad

OBJECTS = ("question-answering", "multiple-choice")  # an item is {"question": …, …}
WRITTEN = ("translation", "summarization", EXTRACT)  # their data may have other names for a text
CHUNK = 8 * BATCH_SIZE  # items of a file that are read at once
READ = 2**16  # bytes of stdin at most


def chunks_of(args, task):
    """Lists of (place, item or ValueError), each as soon as it can be read.

    Raises ValueError or MissingFileError at once for a source that is not there, later for one that
    is empty.
    """
    if task == IMAGES:
        if args.texts or not args.data:
            raise ValueError("images come in --data, an .npz file or digits, not as texts")
        return [[(f"image {n}", x) for n, x in enumerate(pictures(args.data).images)]]
    if args.texts:
        if args.data:
            raise ValueError("give texts as arguments or in --data, not both")
        numbered = ((f"text {n}", text) for n, text in enumerate(args.texts))
        return [[(place, _of_line(text, place, task, args)) for place, text in numbered]]
    if args.data and task == "question-answering" and Path(args.data).suffix == ".json":
        found = squad(args.data, answered=False)
        asked = ({"question": q.question, "context": q.context} for q in found)
        return [[(f"question {q.id}", x) for q, x in zip(found, asked, strict=True)]]
    if args.data:
        files = files_of(args.data)
        if task in OBJECTS and (other := [f for f in files if kind_of(f) != ".jsonl"]):
            raise ValueError(f"{other[0]} must hold one JSON object a line; name it .jsonl")
        found = chain.from_iterable(_of_file(file, task, args) for file in files)
        return _not_none(iter(lambda: list(islice(found, CHUNK)), []), args.data)
    if sys.stdin.isatty():
        raise ValueError("there are no texts; give them as arguments, in --data or on stdin")
    return _not_none(_of_stdin(task, args), "stdin")


def _not_none(chunks, source):
    """The chunks that are not empty. Raises ValueError where there is none."""
    empty = True
    for chunk in filter(None, chunks):
        empty = False
        yield chunk
    if empty:
        raise ValueError(f"{source} holds no text; give at least one line")


# ------------------------------------------------------- places


def _of_file(path, task, args):
    if kind_of(path) == ".txt":
        for place, line in lines_of(path):
            if isinstance(line, ValueError) or line.strip():
                yield place, line if isinstance(line, ValueError) else line.strip()
        return
    for place, record in rows_of(path, [args.text_column, args.text_pair_column]):
        yield place, _of_record(record, place, task, args)


def _of_stdin(task, args):
    """All that can be read without waiting is one chunk: slow input is answered line by line."""
    parts, number = [], 0
    while piece := sys.stdin.buffer.read1(READ):
        *whole, rest = piece.split(b"\n")
        if whole:
            whole[0] = b"".join([*parts, whole[0]])
            parts = []
            yield _lines(whole, number, task, args)
            number += len(whole)
        if sum(map(len, parts)) <= limits.LINE:  # the rest of a longer line is not needed
            parts.append(rest)
    yield _lines([b"".join(parts)], number, task, args)


def _lines(some, before, task, args):
    """Lines of stdin  ->  a chunk of those that are not empty."""
    chunk = []
    for number, line in enumerate(some, before + 1):
        place, text = f"stdin line {number}", decoded(line, number)
        if isinstance(text, ValueError):
            chunk.append((place, text))
        elif text.strip():
            chunk.append((place, _of_line(text, place, task, args)))
    return chunk


# ------------------------------------------------------- items


def _of_line(line, place, task, args):
    """A text, or the JSON object of a text that begins with {."""
    if task not in OBJECTS and not line.lstrip().startswith("{"):
        return line if args.texts else line.strip()
    return _of_record(object_of(line), place, task, args)


def _of_record(record, place, task, args):
    if isinstance(record, ValueError) or task in OBJECTS:
        return record
    column = args.text_column
    if task in WRITTEN and column is None:
        column = next((name for name, _ in NAMES if name in record), None)
    try:
        if task == "text-classification":
            text, pair = pair_of(place, record, column, args.text_pair_column)
            return text if pair is None else {"text": text, "text_pair": pair}
        if task in WRITTEN and isinstance(record.get(column), list):
            sentences = [text_of(place, {"text": x}) for x in record[column]]
            return sentences if task == EXTRACT else " ".join(sentences)
        return text_of(place, record, column)
    except ValueError as error:
        return ValueError(str(error).removeprefix(place).lstrip(": "))
