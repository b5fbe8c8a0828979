"""Pairs of source and target texts (translation, summarization), training data of encoder–decoders.

two files      line i of one is the translation of line i of the other, as in Multi30k
a table        .tsv, .csv, or .txt with tabs, two columns by name or by number, as in Tatoeba
.jsonl         two keys; a list of targets holds several references, as in SciTLDR, and a list of
               sources holds the sentences of one text
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import Batching, collate
from minidistil.data.in_memory import InMemory
from minidistil.data.masking import IGNORED
from minidistil.data.sources import files_of, lines, records
from minidistil.data.tokenizer import Tokenizer
from minidistil.io import limits
from minidistil.io.files import MissingFileError

NAMES = (("source", "target"), ("text", "summary"), ("document", "summary"),
         ("article", "highlights"))  # fmt: skip


def texts_and_targets(
    source: str | Path, source_column: str | None = None, target_column: str | None = None
) -> Iterator[tuple]:
    """As `text_pairs` with columns, but (place, text or list of its sentences, [targets])."""
    for path in files_of(source):
        yield from _records(path, source_column, target_column)


def text_pairs(
    source: str | Path, *, target_file: str | Path | None = None,
    source_column: str | None = None, target_column: str | None = None,
) -> Iterator[tuple[str, list[str]]]:  # fmt: skip
    """source (path), and the target's file or two columns  ->  iterator of (text, [targets]).

    The columns default to the first of NAMES that a record has. Raises MissingFileError, or
    ValueError for files of unequal length, a missing column and an empty text.
    """
    if target_file is not None:
        return _side_by_side(Path(source), Path(target_file))
    return _columns(source, source_column, target_column)


def _side_by_side(source, target):
    for path in (source, target):
        if not path.exists():
            raise MissingFileError(f"no data at {path}; give a file with a text in each line")
    sides = [[line.strip() for _, line in lines(path)] for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"{source} has {len(sides[0])} lines, {target} has {len(sides[1])}; line i of one must "
            f"be what line i of the other becomes"
        )
    for number, (text, becomes) in enumerate(zip(*sides, strict=True), 1):
        yield _checked(f"{source} line {number}", text, [becomes])


def _columns(source, first, second):
    for place, text, targets in texts_and_targets(source, first, second):
        yield _checked(place, " ".join(text) if isinstance(text, list) else text, targets)


def _records(path, first, second):
    for place, record in records(path, [first, second]):
        pair = (first, second)
        if first is None or second is None:
            pair = next((names for names in NAMES if set(names) <= set(record)), None)
        keys = [_key(record, name) for name in pair or ()]
        if not keys or None in keys:
            known = limits.few(repr(str(name)) for name in record)
            raise ValueError(
                f"{place} has no source and target, but {known}: name both columns, or give "
                f"their numbers, from 0, if the file has no header"
            )
        text, targets = (record[key] for key in keys)
        yield place, text, targets if isinstance(targets, list) else [targets]


def _key(record, name):
    for key in (name, int(name) if str(name).isdecimal() else name):
        if key in record:
            return key
    return None


def _checked(place, text, targets):
    if not targets or not all(isinstance(t, str) and t.strip() for t in (text, *targets)):
        raise ValueError(f"{place}: source and target must be texts; remove the row")
    return text.strip(), [target.strip() for target in targets]


class Wanted(NamedTuple):
    """The references of an evaluation batch, and how the model's answers are generated."""

    texts: list[list[str]]  # of each source its references
    decode: Callable  # ids -> str
    search: dict  # options of EncoderDecoder.generate


class TextPairs(InMemory):
    """Pairs (text, [targets]) to train on, the first target of each, and others to evaluate on.

    The tokens of a batch are those of sources and targets. max_length, max_target_length: longer
    texts are cut. search: the generation options of an evaluation batch.
    """

    def __init__(
        self, pairs: Iterable[tuple], tokenizer: Tokenizer, batching: Batching, *,
        evaluation: Iterable[tuple] = (), max_length: int | None = None,
        max_target_length: int | None = None, search: dict | None = None,
    ):  # fmt: skip
        pairs, evaluation = list(pairs), list(evaluation)
        if not pairs and not evaluation:
            raise ValueError("there are no pairs; give at least one")
        every = pairs + evaluation
        self.tokenizer, self.search = tokenizer, search or {}
        self.targets = [targets for _, targets in every]
        self.sequences, _ = tokenizer.sequences([text for text, _ in every], None, max_length)
        first, _ = tokenizer.sequences([t[0] for t in self.targets], None, max_target_length)
        self.labels = [ids[1:] for ids in first]  # [CLS] is the decoder's first input, no label
        lengths = [len(s) + len(t) for s, t in zip(self.sequences, self.labels, strict=True)]
        super().__init__(lengths, len(pairs), batching)

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these pairs: input_ids, attention_mask (B,T), labels (B,U); the same at
        every step."""
        batch = collate([self.sequences[i] for i in indices], self.tokenizer.pad_id)
        labels = collate([self.labels[i] for i in indices], IGNORED)["input_ids"]
        return {**batch, "labels": labels}

    def evaluation_batches(self) -> list[dict]:
        """The batches of the evaluation pairs, the same at every call, each with `wanted`."""
        found = []
        for numbers in self.evaluation_numbers():
            texts = [self.targets[i] for i in numbers]
            wanted = Wanted(texts, self.tokenizer.decode, self.search)
            found.append({**self.collate(numbers), "wanted": wanted})
        return found
