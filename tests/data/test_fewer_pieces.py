"""Tokenizers of every kind that lose pieces: texts of the pieces that stay are cut as before, and
no text becomes unknown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_tokenizers import every, texts
from toy_tokenizers import TEXTS, byte_pairs, unigrams

from minidistil.data import train_wordpiece
from minidistil.data.fewer_pieces import most_used, piece_counts, with_pieces

ALL = 10**6  # more pieces than any tokenizer has


def pieces(tokenizer, text):
    return tokenizer.backend.encode(text).tokens


def smallest(tokenizer):
    """The number of the pieces that always stay."""
    return len(most_used(tokenizer, np.zeros(tokenizer.vocab_size, np.int64), ALL))


@settings(max_examples=80)
@given(every, st.lists(texts, min_size=1, max_size=4), texts, st.integers(0, 40))
def test_laws_of_every_kind(tokenizer, used, other, more):
    counts = piece_counts(tokenizer, used)
    kept = most_used(tokenizer, counts, smallest(tokenizer) + more)
    small = with_pieces(tokenizer, kept)

    vocabulary = {piece: old for piece, old in tokenizer.get_vocab().items() if old in kept}
    assert small.get_vocab() == {piece: kept.index(old) for piece, old in vocabulary.items()}
    assert small.ids == {role: kept.index(old) for role, old in tokenizer.ids.items()}
    assert (small.max_length, small.side, small.token_types) == (
        tokenizer.max_length, tokenizer.side, tokenizer.token_types
    )  # fmt: skip
    for text in (*used, other, f"{other} {used[0]}"):
        before, after = (t.backend.encode(text) for t in (tokenizer, small))
        if set(before.ids) <= set(kept):
            assert [kept[i] for i in after.ids] == before.ids
            assert after.type_ids == before.type_ids
            assert small.decode(after.ids) == tokenizer.decode(before.ids)
    full = with_pieces(tokenizer, most_used(tokenizer, counts, ALL))
    assert [pieces(full, text) for text in used] == [pieces(tokenizer, text) for text in used]


KINDS = {
    "wordpiece": lambda: train_wordpiece(TEXTS, 200, min_frequency=1), "bpe": byte_pairs,
    "unigrams": unigrams,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_piece_is_cut_into_others(kind):
    tokenizer = KINDS[kind]()
    least = smallest(tokenizer)
    kept = most_used(tokenizer, piece_counts(tokenizer, ["the lazy dog"]), least + 4)
    small, text = with_pieces(tokenizer, kept), "The quickest fox sleeps."
    assert least < len(kept) < tokenizer.vocab_size
    assert len(pieces(small, text)) > len(pieces(tokenizer, text))
    assert small.names["unk"] not in pieces(small, text)
    assert small.decode(small(text)["input_ids"]) == tokenizer.decode(tokenizer(text)["input_ids"])


def test_the_most_frequent_pieces_stay():
    tokenizer = KINDS["wordpiece"]()
    texts = ["the dog", "the dog", "the fox", "dog"]
    counts = piece_counts(tokenizer, texts)
    the, dog, fox = (tokenizer.token_to_id(word) for word in ("the", "dog", "fox"))
    assert (counts[the], counts[dog], counts[fox], counts.sum()) == (3, 3, 1, 7)
    kept = most_used(tokenizer, counts, smallest(tokenizer) + 2)
    assert {the, dog} <= set(kept) and fox not in kept and kept == sorted(kept)


def test_merges_on_the_way_to_a_piece_stay():
    tokenizer = byte_pairs(400)
    text = "a quick dog jumping"
    counts = piece_counts(tokenizer, [text])
    kept = most_used(tokenizer, counts, ALL)
    small = with_pieces(tokenizer, kept)
    assert pieces(small, text) == pieces(tokenizer, text)
    assert len(kept) > smallest(tokenizer) + (counts > 0).sum()  # and what is between
    one_less = smallest(tokenizer) + 1  # no room for what lies between
    assert len(most_used(tokenizer, counts, one_less)) <= one_less


def test_too_few_pieces_are_refused():
    tokenizer = KINDS["wordpiece"]()
    with pytest.raises(ValueError, match=r"10 pieces are too few: .* single letters.* are \d+ of"):
        most_used(tokenizer, np.zeros(tokenizer.vocab_size, np.int64), 10)


def test_marks_at_the_ends_of_words_are_refused():
    import json

    import tokenizers

    from minidistil.data import Tokenizer

    old = byte_pairs()
    state = json.loads(old.to_json())
    state["model"]["end_of_word_suffix"] = "</w>"
    marked = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)), names=old.names)
    with pytest.raises(ValueError, match="end_of_word_suffix cannot lose pieces"):
        most_used(marked, np.ones(marked.vocab_size, np.int64), ALL)
