import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.data import Corpus, fingerprint, held_out, split, train_wordpiece

SENTENCE = "the quick brown fox jumps over the lazy dog and sleeps under a tree by the river. "


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece([SENTENCE * 3], 300, min_frequency=1)


@pytest.fixture(scope="module")
def texts():
    # 600 documents, more than are tokenised at once, of 1 to 9 sentences
    return [SENTENCE * (1 + i % 9) + "fox " * (i % 5) for i in range(600)]


@pytest.fixture
def corpus(tokenizer, texts, tmp_path):
    return Corpus.build(tmp_path / "corpus", iter(texts), tokenizer, max_length=32)


def test_the_pieces_of_a_document_are_its_ids(corpus, tokenizer, texts):
    assert len(corpus) == len(corpus.lengths) == len(corpus.documents)
    for number in (0, 8, 255, 256, 599):
        pieces = [corpus[i] for i in np.flatnonzero(corpus.documents == number)]
        (whole,) = tokenizer.content([texts[number]])
        inside = [i for piece in pieces for i in piece[1:-1]]
        assert whole[: len(inside)] == inside
        assert len(whole) - len(inside) < 10  # only a last short piece may be dropped
        for piece in pieces:
            assert piece.dtype == np.int64
            assert piece[0] == tokenizer.cls_id and piece[-1] == tokenizer.sep_id
        assert all(len(piece) == 32 for piece in pieces[:-1])


def test_facts_of_the_header(corpus, tokenizer):
    whole = np.concatenate([corpus[i] for i in range(len(corpus))])
    assert corpus.tokens == len(whole) == corpus.lengths.sum()
    assert corpus.ids.dtype == np.uint16
    np.testing.assert_array_equal(corpus.counts, np.bincount(whole, minlength=tokenizer.vocab_size))
    assert corpus.lengths.min() >= 12 and corpus.lengths.max() == 32
    assert corpus.vocab_size == tokenizer.vocab_size
    assert corpus.max_length == 32
    assert corpus.fingerprint == fingerprint(tokenizer)
    for role in ("cls", "sep", "pad", "unk", "mask"):
        assert getattr(corpus, f"{role}_id") == getattr(tokenizer, f"{role}_id")
    with pytest.raises(IndexError):
        corpus[len(corpus)]


def test_short_and_unknown_sequences_are_dropped(tokenizer, tmp_path):
    assert len(tokenizer.content(["fox"])[0]) == 1
    texts = ["fox " * 9, "fox " * 10, "", "fox " * 12 + "♥ " * 12, "fox " * 11 + "♥ " * 13]
    corpus = Corpus.build(tmp_path / "c", texts, tokenizer, max_length=64)
    assert corpus.documents.tolist() == [1, 3]  # not 11 tokens, and not 13 unknown ones of 26
    assert corpus.lengths.tolist() == [12, 26]


def test_wide_vocabulary_takes_four_bytes(tokenizer, tmp_path):
    class Wide:
        vocab_size, max_length = 70_000, 64
        ids = {"cls": 2, "sep": 3, "pad": 0, "unk": 1, "mask": 4}  # noqa: RUF012
        cls_id, sep_id, unk_id = 2, 3, 1

        def content(self, texts):
            return [[69_999] * 20 for _ in texts]

        def get_vocab(self):
            return {"a": 0}

    corpus = Corpus.build(tmp_path / "c", ["x"] * 3, Wide(), max_length=64)
    assert corpus.ids.dtype == np.uint32
    assert corpus[2].tolist() == [2, *[69_999] * 20, 3]


def test_open_reads_what_build_wrote(corpus):
    again = Corpus.open(corpus.path)
    assert len(again) == len(corpus)
    np.testing.assert_array_equal(again[5], corpus[5])
    assert isinstance(again.ids, np.memmap)


def test_progress(tokenizer, texts, tmp_path):
    calls = []
    corpus = Corpus.build(
        tmp_path / "c", texts, tokenizer, max_length=32, progress=lambda *now: calls.append(now)
    )
    assert [documents for documents, _ in calls] == [256, 512, 600]
    assert calls[-1][1] == corpus.tokens


def test_failure_leaves_nothing_new(tokenizer, texts, tmp_path):
    def broken():
        yield from texts[:300]
        raise ValueError("line 301 is bad")

    path = tmp_path / "c"
    for documents, message in ((broken(), "line 301"), (["too short"], "none of 1 documents")):
        with pytest.raises(ValueError, match=message):
            Corpus.build(path, documents, tokenizer, max_length=32)
        assert list(tmp_path.iterdir()) == []
    before = Corpus.build(path, texts, tokenizer, max_length=32).path.read_bytes()
    with pytest.raises(ValueError, match="line 301"):
        Corpus.build(path, broken(), tokenizer, max_length=32)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="min_tokens 12 <= max_length 8"):
        Corpus.build(path, texts, tokenizer, max_length=8)


def test_damaged_files_are_refused(corpus, tmp_path):
    whole = corpus.path.read_bytes()
    path = tmp_path / "damaged"

    def refused(content, message):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Corpus.open(path)

    refused(b"", "is not a tokenised corpus")
    refused(b"PK" + whole[2:], "is not a tokenised corpus")
    refused(whole[:-8], "bytes where its header says")
    refused(whole[:200], "bytes where its header says")
    refused(whole + b"\0", "bytes where its header says")
    refused(whole[:8] + b"\x09" + whole[9:], "has version 9")
    refused(whole[:12] + b"\x03" + whole[13:], "bytes where its header says")
    refused(whole[:-100] + b"\x7f" + whole[-99:], "fails its checksum")
    refused(whole[:20] + b"\x7f" + whole[21:], "fails its checksum")
    with pytest.raises(FileNotFoundError):
        Corpus.open(tmp_path / "nowhere")


def test_whole_documents_are_held_out(corpus):
    kept, out = held_out(corpus, 0.1, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(corpus)))
    ours, theirs = set(corpus.documents[kept].tolist()), set(corpus.documents[out].tolist())
    assert not ours & theirs
    assert len(theirs) == round(0.1 * len(ours | theirs))
    again = held_out(corpus, 0.1, seed=3)
    np.testing.assert_array_equal(again[1], out)
    assert set(held_out(corpus, 0.1, seed=4)[1].tolist()) != set(out.tolist())
    assert len(set(corpus.documents[held_out(corpus, 7)[1]].tolist())) == 7


@given(
    documents=st.lists(st.integers(0, 10**12), min_size=2).filter(lambda d: len(set(d)) > 1),
    part=st.floats(0.01, 0.6),
    seed=st.integers(0, 2**64 - 1),
)
def test_split_covers_and_separates(documents, part, seed):
    documents = np.array(documents)
    if round(part * len(set(documents.tolist()))) >= len(set(documents.tolist())):
        return
    kept, out = split(documents, part, seed)
    assert sorted([*kept.tolist(), *out.tolist()]) == list(range(len(documents)))
    assert len(kept) and len(out)
    assert not set(documents[kept].tolist()) & set(documents[out].tolist())


def test_neighbouring_seeds_hold_out_independent_documents():
    documents = np.arange(10_000)
    first, second = (set(split(documents, 0.1, seed)[1].tolist()) for seed in (0, 1))
    assert 60 < len(first & second) < 140  # 100 by chance


@pytest.mark.parametrize("part", [0, 0.0, 2, 1.0, -1])
def test_impossible_parts(part):
    with pytest.raises(ValueError, match="cannot hold out"):
        split(np.array([4, 4, 9]), part)
