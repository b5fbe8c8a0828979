"""Documents of which some sentences become the summary, each document one row of tokens.

    [CLS] sentence [SEP] [CLS] sentence [SEP] [CLS] sentence [SEP]
      A      A       A     B      B       B     A      A       A      token types, where there are

What the model says at a sentence's [CLS] is said of the sentence. A document that is too long ends
with the last sentence that fits; of a single sentence the beginning is read.
Source: Liu, "Fine-tune BERT for extractive summarization" (BertSum), 2019, §2.1 and §2.3.
"""

import re
import warnings
from typing import NamedTuple

import numpy as np

from minidistil.data.in_memory import InMemory, padded
from minidistil.data.masking import IGNORED
from minidistil.data.sources import half
from minidistil.data.text_pairs import texts_and_targets

TOGETHER = 256  # documents tokenised at once
ENDS = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+|\n\s*\n")
SHORT = ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "al", "fig", "eq", "e.g", "i.e", "cf")


class Document(NamedTuple):
    """sentences: strs; targets: the right summaries; labels (S,): 1 where one is to be chosen,
    None where nobody says it."""

    sentences: list
    targets: list = ()
    labels: np.ndarray | None = None


class Asked(NamedTuple):
    """Beside an evaluation batch: its documents, and how sentences are to be chosen."""

    documents: list
    sentences: int
    trigram_blocking: bool


def sentences_of(text):
    """A text  ->  its sentences; a list of sentences as it is. Raises ValueError for neither.

    A sentence ends at . ! or ? before a space, unless a small letter follows, or the word before is
    an initial or one of some abbreviations; and at an empty line.
    """
    if isinstance(text, str):
        found, start = [], 0
        for end in ENDS.finditer(text):
            if not _goes_on(
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


def _goes_on(before, mark, then):
    """Whether what looks like the end of a sentence is inside one."""
    if not mark.strip():
        return False
    word = before.split()[-1].strip("(\"'“‘[").lower() if before.split() else ""
    short = word in SHORT or (len(word) == 1 and word.isalpha() and word != "i")
    return then.islower() or (mark.startswith(".") and not mark.startswith("..") and short)


def documents_of(source, source_column=None, target_column=None):
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


def packed(documents, tokenizer, max_length=None):
    """Lists of sentences  ->  for each ids (T,), types (T,), and which sentence begins at a token,
    (T,), IGNORED elsewhere."""
    room, found, cut = max_length or tokenizer.max_length, [], 0
    if not 3 <= room <= tokenizer.max_length:
        raise ValueError(
            f"max_length {room} is not between 3 and the {tokenizer.max_length} positions of the "
            f"model; choose a length that it has"
        )
    for start in range(0, len(documents), TOGETHER):
        some = documents[start : start + TOGETHER]
        pieces = iter(tokenizer.content([sentence for document in some for sentence in document]))
        for document in some:
            sentences = [next(pieces) for _ in document]
            cut += len(sentences[0]) > room - 2
            found.append(_packed(sentences, tokenizer, room))
    if cut:
        warnings.warn(
            f"{cut} of {len(documents)} documents begin with a sentence of more than {room} "
            f"tokens; its end is not read", stacklevel=3,
        )  # fmt: skip
    return found


def _packed(sentences, tokenizer, room):
    ids, types, begins = [], [], []
    for number, words in enumerate(sentences):
        # A [CLS] that the text itself holds would begin a sentence.
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

    sentences, trigram_blocking: how an evaluation batch's sentences are to be chosen.
    """

    def __init__(self, documents, tokenizer, *, tokens, evaluation=(), seed=0, max_length=None,
                 sentences=3, trigram_blocking=False):  # fmt: skip
        self.tokenizer, self.every = tokenizer, [*documents, *evaluation]
        self.how = sentences, trigram_blocking
        if not self.every:
            raise ValueError("there are no documents; give at least one")
        if sentences < 1:
            raise ValueError(f"a summary needs 1 sentence or more, not {sentences}")
        found = packed([d.sentences for d in self.every], tokenizer, max_length)
        self.sequences, self.types, self.begins = zip(*found, strict=True)
        super().__init__([len(x) for x in self.sequences], len(documents), tokens=tokens, seed=seed)

    def read(self):
        """How many sentences of each document fit."""
        return [int(begins.max()) + 1 for begins in self.begins]

    def collate(self, indices, *, step=0, first_sequence=0):
        """The batch of these documents with their labels; a step changes nothing here."""
        batch = padded(indices, self.sequences, self.types, self.tokenizer)
        labels = np.full(batch["input_ids"].shape, IGNORED, np.int64)
        for row, i in zip(labels, indices, strict=True):
            at = np.flatnonzero(self.begins[i] != IGNORED)
            row[at] = self.every[i].labels[: len(at)]
        return {**batch, "labels": labels}

    def evaluation_batches(self):
        """The evaluation documents: a list of batches that is the same at every call, each with
        `asked` beside its arrays."""
        return [
            {**self.collate(numbers), "asked": Asked([self.every[i] for i in numbers], *self.how)}
            for numbers in self.evaluation_numbers()
        ]


def choose(scores, sentences, most, trigram_blocking=False):
    """scores (S,) of the first S sentences  ->  the numbers of at most `most`, the highest, in the
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
