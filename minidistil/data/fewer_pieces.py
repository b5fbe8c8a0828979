"""A tokenizer with fewer pieces: those that some texts use most.

Word vectors are a large part of a small model, and the texts of one task use few of them. These
stay:

    special and added tokens
    single letters     (WordPiece: also as the end of a word; BPE: the 256 bytes), so that no text
                       becomes unknown
    frequent pieces    of the given texts, up to the wanted number

The pieces keep their order, and their ids close the gaps. A word whose piece is gone is cut into
smaller ones, by the rules of each kind:

    WordPiece   takes the longest piece that is left.
    BPE         merges its way up to a piece. The pieces in between stay with it, and so do all
                merges among the pieces that stay; the others cannot occur.
    unigrams    take the cut of highest probability among the pieces that are left.

A text whose pieces all stay is therefore cut as before.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise

import numpy as np
import tokenizers

from minidistil.data.tokenizer import CHUNK, Tokenizer
from minidistil.data.tokenizer_kinds import PREFIX

BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a byte, in unigrams and BPE with byte_fallback


def piece_counts(tokenizer: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """How often each id occurs in the texts, without special tokens around them: (V,) integers."""
    counts, texts = np.zeros(tokenizer.vocab_size, np.int64), iter(texts)
    while some := list(islice(texts, CHUNK)):
        for ids in tokenizer.content(some):
            np.add.at(counts, ids, 1)
    return counts


def most_used(tokenizer: Tokenizer, counts: np.ndarray, most: int) -> list[int]:
    """At most `most` ids, ascending: what always stays, then the pieces of the highest counts.

    counts: see `piece_counts`; a piece that does not occur is left out. Raises ValueError where
    `most` is less than what always stays.
    """
    state = json.loads(tokenizer.to_json())
    kept = _always(tokenizer, state)
    if most < len(kept):
        raise ValueError(
            f"{most:,} pieces are too few: special tokens and single letters, which always stay, "
            f"are {len(kept):,} of the {tokenizer.vocab_size:,}; ask for more than these"
        )
    between = _Merges(state["model"]) if state["model"]["type"] == "BPE" else None
    names = {number: piece for piece, number in tokenizer.get_vocab().items()}
    for number in np.argsort(-counts, kind="stable"):
        if not counts[number]:
            break
        needed = {int(number)}
        if between and number not in kept:
            needed |= {tokenizer.token_to_id(piece) for piece in between.of(names[int(number)])}
        if len(kept | needed) <= most:
            kept |= needed
    return sorted(kept)


def with_pieces(tokenizer: Tokenizer, kept: Sequence[int]) -> Tokenizer:
    """The tokenizer with the pieces of the ids `kept` alone, numbered in this order."""
    state, new = json.loads(tokenizer.to_json()), {old: i for i, old in enumerate(kept)}
    vocabulary = tokenizer.get_vocab()
    _keep(state["model"], {piece for piece, old in vocabulary.items() if old in new}, new)
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber_ends(state["post_processor"], new)
    backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    backend.enable_truncation(tokenizer.max_length, direction=tokenizer.side)
    backend.encode_special_tokens = tokenizer.backend.encode_special_tokens
    return Tokenizer(
        backend, names=tokenizer.names, max_length=tokenizer.max_length,
        token_types=tokenizer.token_types,
    )  # fmt: skip


def _always(tokenizer, state):
    """The ids that stay whatever the texts: special and added tokens, letters and bytes."""
    added = {token["id"] for token in state["added_tokens"]}
    letters = {
        number for piece, number in tokenizer.get_vocab().items()
        if len(piece.removeprefix(PREFIX)) == 1 or len(piece) == 1 or BYTE.fullmatch(piece)
    }  # fmt: skip
    unknown = {state["model"].get("unk_id")} - {None}  # of unigrams, which have no name for it
    return added | letters | unknown | set(tokenizer.special_ids)


def _keep(model, pieces, new):
    """Leaves these pieces in the model of a tokenizer.json."""
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in new if old < len(model["vocab"])]
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
        return
    model["vocab"] = {p: new[old] for p, old in model["vocab"].items() if old in new}
    if model["type"] == "BPE":
        model["merges"] = [[a, b] for a, b in model["merges"] if {a, b, a + b} <= pieces]


def _renumber_ends(step, new):
    """Gives the special tokens around a text their new ids."""
    kind = (step or {}).get("type")
    if kind == "Sequence":
        for part in step["processors"]:
            _renumber_ends(part, new)
    elif kind == "TemplateProcessing":
        for token in step["special_tokens"].values():
            token["ids"] = [new[old] for old in token["ids"]]
    elif kind in ("RobertaProcessing", "BertProcessing"):
        for role in ("sep", "cls"):
            name, old = step[role]
            step[role] = [name, new[old]]


class _Merges:
    """The merges of a BPE model, in order. Raises ValueError for marks at the ends of words."""

    def __init__(self, model: Mapping):
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            raise ValueError(
                "a BPE with continuing_subword_prefix or end_of_word_suffix cannot lose pieces; "
                "use the byte-level BPE of RoBERTa or GPT-2"
            )
        self.rank = {tuple(pair): i for i, pair in enumerate(model["merges"])}

    def of(self, piece: str) -> Iterator[str]:
        """The pieces that arise while the letters of `piece` are merged to it."""
        parts = list(piece)
        while ranked := [(self.rank[pair], pair) for pair in pairwise(parts) if pair in self.rank]:
            parts = _merged(parts, min(ranked)[1])
            yield from (part for part in parts if len(part) > 1)


def _merged(parts, pair):
    """The parts with each occurrence of the pair merged, from the left."""
    done, rest = [], list(reversed(parts))
    while rest:
        part = rest.pop()
        if rest and (part, rest[-1]) == pair:
            part += rest.pop()
        done.append(part)
    return done
