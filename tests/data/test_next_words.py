"""Windows over a stream of documents: every word is asked for once, in its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidistil.data import Corpus, NextWords, load_tokenizer, split, train_byte_pairs
from minidistil.data.batches import Batching
from minidistil.data.next_words import Stream, Windows

TEXTS = ["the cat sat on the mat", "a dog ran — straße 🙂 after the cat", "red", "the mat was red"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_pairs(TEXTS * 3, 280)


@pytest.fixture(scope="module")
def corpus(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "documents.corpus"
    return Corpus.build(path, [*TEXTS, ""], tokenizer, max_length=None)


def stream(corpus, documents, end):
    return np.concatenate([[end], *(corpus[i] for i in documents)])


def test_the_corpus_keeps_whole_documents(corpus, tokenizer):
    assert len(corpus) == len(TEXTS)
    for ids, text in zip(corpus, TEXTS, strict=True):
        assert ids[-1] == tokenizer.sep_id and tokenizer.decode(ids[:-1]) == text


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_word_is_asked_for_once(corpus, data):
    documents = data.draw(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, unique=True))
    T = data.draw(st.integers(2, 40))
    context = data.draw(st.integers(1, T - 1))
    packed, whole = data.draw(st.booleans()), stream(corpus, documents, 0)
    windows = Windows(corpus, documents, 0, Stream(T, packed, context))
    assert windows.lengths.max() <= T and windows.lengths.min() >= 2
    asked = []
    for i, (start, stop) in enumerate(zip(windows.starts, windows.stops, strict=True)):
        np.testing.assert_array_equal(windows.ids(i), whole[start:stop])
        first = max(1, windows.shared[i])  # nothing in the window is before column 0
        asked += range(start + first, stop)
        assert windows.shared[i] in (0, context)
    assert asked == list(range(1, len(whole)))


def test_texts_alone_begin_and_end_with_the_end(corpus):
    windows = Windows(corpus, np.arange(4), 0, Stream(99, packed=False))
    for i in range(4):
        np.testing.assert_array_equal(windows.ids(i), [0, *corpus[i]])


def test_batches(corpus, tokenizer):
    kept, out = split(corpus.documents, 1)
    data = NextWords(corpus, kept, tokenizer, Batching(12), Stream(6, context=4), held_out=out)
    numbers = np.concatenate(data.batches(0))
    assert sorted(numbers) == list(range(len(data.training.lengths)))
    batch = data.collate(np.array([0, len(numbers) - 1]))
    ids, labels, real = batch["input_ids"], batch["labels"], batch["attention_mask"] == 1
    assert (labels[1, 0], labels[0, 0]) == (-100, ids[0, 0])
    np.testing.assert_array_equal(labels[:, 1:], np.where(real, ids, -100)[:, 1:])
    asked = sum(int((b["labels"][:, 1:] != -100).sum()) for b in data.evaluation_batches())
    assert asked == corpus.lengths[out].sum()
    few = NextWords(
        corpus, kept, tokenizer, Batching(12), Stream(6), held_out=out, evaluation_tokens=6
    )
    assert sum(len(b["labels"]) for b in few.evaluation_batches()) == 1
    none = NextWords(corpus, kept, tokenizer, Batching(12), Stream(6))
    assert none.evaluation_batches() == []


def test_refused(corpus, tokenizer):
    for context in (0, 6):
        with pytest.raises(ValueError, match="windows of 6 tokens can share 1 to 5, not"):
            NextWords(corpus, [0], tokenizer, Batching(9), Stream(6, context=context))
    with pytest.raises(ValueError, match="build the corpus with this tokenizer"):
        NextWords(corpus, [0], train_byte_pairs(TEXTS, 260), Batching(9), Stream(6))
    with pytest.raises(ValueError, match="must hold 256 bytes"):
        train_byte_pairs(TEXTS, 256)


def test_learnt_byte_pairs(tokenizer, tmp_path):
    """Nothing is unknown; the files are GPT-2's, and say the same without tokenizer.json."""
    assert train_byte_pairs(TEXTS * 3, 280).get_vocab() == tokenizer.get_vocab()
    text = "Zürich — 🙂 cats"
    ids = tokenizer(text)["input_ids"][0]
    assert tokenizer.decode(ids) == text and tokenizer.sep_id == 0
    tokenizer.save(tmp_path)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    assert theirs(text)["input_ids"] == list(ids)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    bare = load_tokenizer(tmp_path)
    np.testing.assert_array_equal(bare(text)["input_ids"][0], ids)
    assert bare.special_ids == (0,)
