"""Documents for extractive summarization, each one sequence of sentences.

    [CLS] sentence [SEP] [CLS] sentence [SEP] [CLS] sentence [SEP]
      A      A       A     B      B       B     A      A       A      token types, if any

The logits at a sentence's [CLS] classify the sentence. A document that is too long is cut after the
last sentence that fits; a first sentence that is too long is cut itself.
Source: Liu, "Fine-tune BERT for extractive summarization" (BertSum), 2019, §2.1 and §2.3.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.in_memory import InMemory, padded
from minidistil.data.masking import IGNORED
from minidistil.data.sources import half
from minidistil.data.text_pairs import texts_and_targets
from minidistil.data.tokenizer import Tokenizer
from minidistil.io.counts import part_of

CHUNK = 256  # documents tokenised at once
ENDS = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+|\n\s*\n")
SHORT = ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "al", "fig", "eq", "e.g", "i.e", "cf")


class Document(NamedTuple):
    """A document; targets: reference summaries; labels (S,): 1 for sentences to choose, or None."""

    sentences: list[str]
    targets: list[str] = ()
    labels: np.ndarray | None = None


class Asked(NamedTuple):
    """The documents of an evaluation batch, and how sentences are chosen."""

    documents: list[Document]
    sentences: int
    trigram_blocking: bool


def sentences_of(text: str | list[str]) -> list[str]:
    """A text, or a list of sentences  ->  sentences. Raises ValueError for anything else.

    A sentence ends at . ! or ? before a space, unless a lower-case letter follows, or the word
    before is an initial or an abbreviation; and at an empty line.
    """
    if isinstance(text, str):
        found, start = [], 0
        for end in ENDS.finditer(text):
            if not _continues(
                text[start : end.start()], end.group(), text[end.end() : end.end() + 1]
            ):
                found.append(text[start : end.end()])
                start = end.end()
        text = [*found, text[start:]]
    elif not isinstance(text, list) or not all(isinstance(x, str) for x in text):
        raise ValueError("a document is a text or a list of sentences")
    found = [" ".join(sentence.split()) for sentence in text if sentence.strip()]
    if not found:
        raise ValueError("the document is empty; it needs at least one sentence")
    return found


def _continues(before, mark, then):
    """Whether a sentence continues after this mark."""
    if not mark.strip():
        return False
    word = before.split()[-1].strip("(\"'“‘[").lower() if before.split() else ""
    short = word in SHORT or (len(word) == 1 and word.isalpha() and word != "i")
    return then.islower() or (mark.startswith(".") and not mark.startswith("..") and short)


def documents_of(
    source: str | Path, source_column: str | None = None, target_column: str | None = None
) -> Iterator[Document]:
    """source (path), columns as in `text_pairs`  ->  iterator of Document without labels."""
    for place, text, targets in texts_and_targets(source, source_column, target_column):
        try:
            sentences = sentences_of(text)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if any(map(half, sentences)):
            raise ValueError(f"{place}: the document holds half of a surrogate pair")
        if not targets or not all(isinstance(t, str) and t.strip() for t in targets):
            raise ValueError(f"{place}: a summary must be a text; remove the row")
        yield Document(sentences, targets)


def packed(
    documents: Sequence[list[str]], tokenizer: Tokenizer, max_length: int | None = None
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Lists of sentences  ->  for each ids (T,), types (T,), and begins (T,): the number of the
    sentence that begins at a token, IGNORED elsewhere."""
    room, found, cut = max_length or tokenizer.max_length, [], 0
    if not 3 <= room <= tokenizer.max_length:
        raise ValueError(
            f"max_length {room} is not between 3 and the {tokenizer.max_length} positions of the "
            f"model; choose a length that it has"
        )
    for start in range(0, len(documents), CHUNK):
        some = documents[start : start + CHUNK]
        pieces = iter(tokenizer.content([sentence for document in some for sentence in document]))
        for document in some:
            sentences = [next(pieces) for _ in document]
            cut += len(sentences[0]) > room - 2
            found.append(_packed(sentences, tokenizer, room))
    if cut:
        warnings.warn(
            f"{part_of(cut, len(documents), 'document', 'begins')} with a sentence of more than "
            f"{room} tokens; its end is not read", stacklevel=3,
        )  # fmt: skip
    return found


def _packed(sentences, tokenizer, room):
    ids, types, begins = [], [], []
    for number, words in enumerate(sentences):
        # A [CLS] in the text itself would mark a sentence.
        words = [i for i in words if i != tokenizer.cls_id]
        if number and len(ids) + len(words) + 2 > room:
            break
        words = words[: room - 2]
        ids += [tokenizer.cls_id, *words, tokenizer.sep_id]
        types += [number % 2] * (len(words) + 2)
        begins += [number] + [IGNORED] * (len(words) + 1)
    return tuple(np.array(x, np.int64) for x in (ids, types, begins))


class Extracts(InMemory):
    """Documents with labels to train on, others to evaluate on; labels (B,T), see `packed`.

    sentences, trigram_blocking: how the sentences of an evaluation batch are chosen.
    """

    def __init__(
        self, documents: Sequence[Document], tokenizer: Tokenizer, batching: Batching, *,
        evaluation: Sequence[Document] = (), max_length: int | None = None, sentences: int = 3,
        trigram_blocking: bool = False,
    ):  # fmt: skip
        self.tokenizer, self.every = tokenizer, [*documents, *evaluation]
        self.how = sentences, trigram_blocking
        if not self.every:
            raise ValueError("there are no documents; give at least one")
        if sentences < 1:
            raise ValueError(f"a summary needs 1 sentence or more, not {sentences}")
        found = packed([d.sentences for d in self.every], tokenizer, max_length)
        self.sequences, self.types, self.begins = zip(*found, strict=True)
        super().__init__([len(x) for x in self.sequences], len(documents), batching)

    def read(self) -> list[int]:
        """How many sentences of each document fit."""
        return [int(begins.max()) + 1 for begins in self.begins]

    def collate(
        self, indices: Sequence[int], *, step: int = 0, first_sequence: int = 0
    ) -> dict[str, np.ndarray]:
        """The batch of these documents with their labels, the same at every step."""
        batch = padded(indices, self.sequences, self.types, self.tokenizer)
        labels = np.full(batch["input_ids"].shape, IGNORED, np.int64)
        for row, i in zip(labels, indices, strict=True):
            at = np.flatnonzero(self.begins[i] != IGNORED)
            row[at] = self.every[i].labels[: len(at)]
        return {**batch, "labels": labels}

    def evaluation_batches(self) -> list[dict]:
        """The batches of the evaluation documents, the same at every call, each with `asked`."""
        return [
            {**self.collate(numbers), "asked": Asked([self.every[i] for i in numbers], *self.how)}
            for numbers in self.evaluation_numbers()
        ]


def choose(
    scores: np.ndarray, sentences: Sequence[str], most: int, trigram_blocking: bool = False
) -> list[int]:
    """scores (S,) of the first S sentences  ->  the numbers of the `most` highest, in the
    document's order.

    trigram_blocking: a sentence that shares three words in a row with one chosen before is left
    out (Paulus et al., 2018). Raises ValueError for fewer than one sentence.
    """
    if most < 1:
        raise ValueError(f"a summary needs 1 sentence or more, not {most}")
    chosen, seen = [], set()
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        words = re.findall(r"\w+", sentences[i].lower())
        triples = set(zip(words, words[1:], words[2:], strict=False))
        if trigram_blocking and triples & seen:
            continue
        chosen.append(int(i))
        seen |= triples
        if len(chosen) == most:
            break
    return sorted(chosen)
