"""Predicts tags of pieces, or entities made of pieces or words, by aggregation strategy.

    none      the tag of every piece
    simple    neighbouring pieces of one kind are an entity
    first     a word's tag is that of its first piece, the only one with a label in training
    average   a word's tag is that of the mean of its pieces' probabilities
    max       a word's tag is that of its piece with the largest probability

After the last three, neighbouring words of one kind are an entity, as in simple. Words are those of
the tokenizer's word ids, without the punctuation at their edges: "London." is two. (BERT's and
RoBERTa's tokenizers separate it; SentencePiece's does not.) An answer has no white space at its
ends, which some tokenizers count to the next piece.

Source: the answers of transformers' TokenClassificationPipeline.
"""

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby, takewhile

import numpy as np

from minidistil.data.windows import answering
from minidistil.tasks.base_predictor import Predictor, listed
from minidistil.tasks.token_classification.data import OUTSIDE

OF_WORDS = {  # pieces' probabilities (n,K)  ->  the word's (K,)
    "first": lambda scores: scores[0],
    "average": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores[scores.max(axis=1).argmax()],
}
STRATEGIES = ("none", "simple", *OF_WORDS)


class TokenClassification(Predictor):
    """Predicts tags or entities of texts."""

    def __call__(
        self, inputs: str | list, aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] = (OUTSIDE,), max_length: int | None = None,
        stride: int | None = None,
    ) -> list:  # fmt: skip
        """aggregation_strategy: "none" answers for every piece, the others for entities.

        A text longer than max_length tokens (None: the model's length) is read in windows that
        share `stride` pieces; each word has its answer from the window in which it is most central.
        """
        if aggregation_strategy not in STRATEGIES:
            raise ValueError(
                f"aggregation_strategy must be one of {', '.join(STRATEGIES)}, "
                f"not {aggregation_strategy!r}"
            )
        texts, answers = listed(inputs), []
        kind = "entity" if aggregation_strategy == "none" else "entity_group"
        for encodings, parts, runs in self.windowed(texts, max_length, stride):
            for encoding, mine in zip(encodings, self._scores(encodings, parts, runs), strict=True):
                text = texts[len(answers)]
                found = self._pieces(text, encoding, mine)
                if aggregation_strategy in OF_WORDS:
                    of_word = OF_WORDS[aggregation_strategy]
                    words = self._words(text, encoding, found)
                    found = [self._word(word, mine, of_word) for word in words]
                if kind == "entity_group":
                    found = [self._entity(group) for group in _groups(found)]
                    found = [one for one in found if one["start"] < one["end"]]
                answers.append([one for one in found if one[kind] not in ignore_labels])
        return answers if isinstance(inputs, list) else answers[0]

    def _scores(self, encodings, parts, runs):
        """Probabilities (T,K) of the pieces of each text, each piece's from one window."""
        windows = []
        for rows, result in runs:
            scores = self.model.ops.place.fetch(self.model.ops.softmax.forward(result.logits)[0])
            windows += np.split(scores, rows.bounds[1:-1])
        found = [np.zeros((len(e.ids), windows[0].shape[1]), windows[0].dtype) for e in encodings]
        for number, mine in groupby(range(len(windows)), parts.owners.__getitem__):
            mine = list(mine)
            places = [parts.places[w] for w in mine]
            for w, at, own in zip(mine, places, answering(places, _numbers(encodings[number])),
                                  strict=True):  # fmt: skip
                found[number][at[own]] = windows[w][own]
        return found

    def _pieces(self, text, encoding, scores):
        """The best tag of every piece of the text that is not white space."""
        unknown, found = self.tokenizer.unk_id, []
        # An Encoding computes these lists at each access.
        ids, tokens, offsets = encoding.ids, encoding.tokens, encoding.offsets
        special = encoding.special_tokens_mask
        for _, places in groupby(range(len(ids)), encoding.word_ids.__getitem__):
            places = [t for t in places if not special[t]]
            spans = [_trimmed(text, *offsets[t]) for t in places]
            if not any(start < end for start, end in spans):
                continue
            for t, (start, end) in zip(places, spans, strict=True):
                found.append({
                    **self._best(scores[t]), "index": t,
                    "word": text[start:end] if ids[t] == unknown else tokens[t],
                    "start": start, "end": end,
                })  # fmt: skip
        return found

    def _best(self, scores):
        """Probabilities (K,)  ->  the tag of the largest."""
        best = int(scores.argmax())
        return {"entity": self.names[str(best)], "score": float(scores[best])}

    @cached_property
    def names(self) -> dict[str, str]:
        """{number of a tag as str: its name}, as in config.json."""
        return self.model.config.to_dict()["id2label"]

    def _words(self, text, encoding, pieces):
        """The pieces of each word; white space also ends a word."""
        groups, number, end, word_ids = [], None, 0, encoding.word_ids
        for piece in pieces:
            mine = word_ids[piece["index"]]
            if not groups or mine != number or piece["start"] > end:
                groups.append([])
            groups[-1].append(piece)
            number, end = mine, piece["end"]
        return [part for group in groups for part in _without_edges(text, group)]

    def _word(self, pieces, scores, of_word):
        """The pieces of a word as one."""
        places = [piece["index"] for piece in pieces]
        return {**self._best(of_word(scores[places])), **self._joined(pieces)}

    def _entity(self, group):
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([piece["score"] for piece in group])),
            **self._joined(group),
        }

    def _joined(self, group):
        seen = [piece for piece in group if piece["start"] < piece["end"]] or group[:1]
        return {
            "word": self.tokenizer.backend.decoder.decode([piece["word"] for piece in group]),
            "start": seen[0]["start"], "end": seen[-1]["end"],
        }  # fmt: skip


def _numbers(encoding):
    """Each piece's word, None for special tokens; a piece without a word id is its own word."""
    return [
        None if special else -1 - t if word is None else word
        for t, (word, special) in enumerate(
            zip(encoding.word_ids, encoding.special_tokens_mask, strict=True)
        )
    ]


def _trimmed(text, start, end):
    """A span of the text without the white space around it."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def _without_edges(text, word):
    """The pieces of a word  ->  lists: leading punctuation, the rest, trailing punctuation."""
    kinds = [_kind_of(text[piece["start"] : piece["end"]]) for piece in word]
    if "letters" not in kinds:
        return [word]
    front = len([*takewhile(lambda kind: kind != "letters", kinds)])
    front = front if "marks" in kinds[:front] else 0  # a space alone belongs to the next piece
    back = len(word) - len([*takewhile(lambda kind: kind != "letters", reversed(kinds))])
    return [part for part in (word[:front], word[front:back], word[back:]) if part]


def _kind_of(text):
    if not text:
        return "space"
    return "marks" if all(unicodedata.category(c)[0] in "PS" for c in text) else "letters"


def _groups(pieces):
    """Groups of neighbours of one kind; B-X begins a new group."""
    groups = []
    for piece in pieces:
        begins, kind = _kind(piece)
        if groups and not begins and kind == _kind(groups[-1][-1])[1]:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _kind(piece):
    """Whether a piece's tag begins an entity, and its kind; a tag without B- or I- continues."""
    tag = piece["entity"]
    return (tag[:2] == "B-", tag[2:]) if tag[:2] in ("B-", "I-") else (False, tag)
