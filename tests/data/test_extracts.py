"""Documents and their sentences: splitting, one row of tokens a document, and the choice."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.data import train_wordpiece
from minidistil.data.batches import Batching
from minidistil.tasks.extractive_summarization.data import (
    IGNORED,
    Document,
    Extracts,
    choose,
    documents_of,
    packed,
    sentences_of,
)

DOCUMENTS = [["a film", "we loved it", "a dull plot"], ["one film"], ["we loved", "a film"]]


@pytest.fixture(scope="module")
def tokenizer():
    words = train_wordpiece([s for d in DOCUMENTS for s in d] * 3, 60, min_frequency=1)
    words.token_types = True
    return words


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It is 3.5 m. at 4 p.m. and goes on. End", ["It is 3.5 m. at 4 p.m. and goes on.", "End"]),
        ("Dr. Smith saw J. K. Rowling. Both", ["Dr. Smith saw J. K. Rowling.", "Both"]),
        ("So am I. Good.", ["So am I.", "Good."]),
        ('He said "No." Then (he left.) Well', ['He said "No."', "Then (he left.)", "Well"]),
        ("nothing... or so... Yes", ["nothing... or so...", "Yes"]),
        ("A head\n\nsmall letters\nin two lines", ["A head", "small letters in two lines"]),
        ("一。二！三", ["一。", "二！", "三"]),
        ("word", ["word"]),
    ],
)
def test_sentences(text, wanted):
    assert sentences_of(text) == wanted


def test_a_list_is_taken_as_it_is():
    assert sentences_of(["One. Two.", " ", " three "]) == ["One. Two.", "three"]


@pytest.mark.parametrize("document", ["", " \n", [], [" "], 3, None, ["a", 3], {"a": "b"}])
def test_no_document(document):
    with pytest.raises(ValueError, match="document"):
        sentences_of(document)


@given(text=st.text().filter(str.strip))
def test_splitting_loses_nothing(text):
    assert " ".join(sentences_of(text)).split() == text.split() or "。" in text or "！" in text or (
        "？" in text
    )  # fmt: skip


def test_a_row_of_sentences(tokenizer):
    ((ids, types, begins), (_, _, alone), _) = packed(DOCUMENTS, tokenizer)
    parts = [tokenizer.content([s])[0] for s in DOCUMENTS[0]]
    wanted = [i for p in parts for i in (tokenizer.cls_id, *p, tokenizer.sep_id)]
    assert ids.tolist() == wanted
    sizes = [len(p) + 2 for p in parts]
    assert types.tolist() == [0] * sizes[0] + [1] * sizes[1] + [0] * sizes[2]
    assert np.flatnonzero(begins != IGNORED).tolist() == [0, sizes[0], sizes[0] + sizes[1]]
    assert begins[begins != IGNORED].tolist() == [0, 1, 2]
    assert alone[0] == 0 and (alone[1:] == IGNORED).all()


def test_a_long_document_ends_with_a_whole_sentence(tokenizer):
    whole, _, _ = packed(DOCUMENTS[:1], tokenizer)[0]
    first = len(tokenizer.content(DOCUMENTS[0][:1])[0]) + 2
    for room in range(3, len(whole) + 1):
        said = pytest.warns(UserWarning, match="1 of 1 document begins with") if room < first else (
            nullcontext())  # fmt: skip
        with said:
            ids, types, begins = packed(DOCUMENTS[:1], tokenizer, room)[0]
        assert len(ids) == len(types) == len(begins) <= room
        assert ids[-1] == tokenizer.sep_id
        if room >= first:
            assert ids.tolist() == whole[: len(ids)].tolist()
            following = begins[begins != IGNORED].max() + 1
            if following < len(DOCUMENTS[0]):
                left = len(tokenizer.content([DOCUMENTS[0][following]])[0]) + 2
                assert len(ids) + left > room
    with pytest.raises(ValueError, match="max_length 2 is not between 3 and the 512"):
        packed(DOCUMENTS, tokenizer, 2)


def test_a_text_cannot_begin_a_sentence(tokenizer):
    (ids, _, begins), _ = packed([["a [CLS] film", "we"], ["[CLS]"]], tokenizer)
    assert (ids == tokenizer.cls_id).sum() == (begins != IGNORED).sum() == 2


def test_batches_have_labels_where_sentences_begin(tokenizer):
    labelled = [Document(d, ["a film"], np.arange(len(d)) % 2) for d in DOCUMENTS]
    data = Extracts(labelled[:2], tokenizer, Batching(99), evaluation=labelled[2:], sentences=1)
    batch = data.collate([1, 0])
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["token_type_ids"].max() == 1
    starts = batch["input_ids"] == tokenizer.cls_id
    assert ((batch["labels"] != IGNORED) == starts).all()
    assert batch["labels"][starts].tolist() == [0, 0, 1, 0]
    (held,) = data.evaluation_batches()
    assert held["asked"].documents == labelled[2:] and held["asked"].sentences == 1
    short = Extracts(labelled, tokenizer, Batching(99), max_length=5)
    assert short.read()[0] < 3 and (short.collate([0])["labels"] != IGNORED).sum() < 3
    for wrong in ({"sentences": 0}, {"documents": []}):
        with pytest.raises(ValueError, match=r"1 sentence or more|at least one"):
            Extracts(
                **{"documents": labelled, "tokenizer": tokenizer, "batching": Batching(9)} | wrong
            )


def test_the_highest_in_the_documents_order():
    sentences = ["a b c d", "x b c d", "e f", "g"]
    scores = np.array([0.5, 0.9, 0.1, 0.2])
    assert choose(scores, sentences, 2) == [0, 1]
    assert choose(scores, sentences, 2, trigram_blocking=True) == [1, 3]
    assert choose(scores, sentences, 9) == [0, 1, 2, 3]
    assert choose(np.zeros(2), sentences, 1) == [0]
    assert choose(scores[:2], sentences, 3, trigram_blocking=True) == [1]
    with pytest.raises(ValueError, match="1 sentence or more, not 0"):
        choose(scores, sentences, 0)


def test_files(tmp_path):
    rows = [{"document": ["One.", "Two."], "summary": ["a", "b"]},
            {"document": "Three. Four.", "summary": "c"}]  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    wanted = [Document(["One.", "Two."], ["a", "b"]), Document(["Three.", "Four."], ["c"])]
    assert list(documents_of(path)) == wanted
    for row, message in (
        ({"document": [], "summary": "a"}, "line 1: the document is empty"),
        ({"document": 3, "summary": "a"}, "line 1: a document is a text or a list"),
        ({"document": "a", "summary": " "}, "line 1: a summary must be a text"),
        ({"document": "a", "summary": []}, "line 1: a summary must be a text"),
        ({"document": "a"}, "line 1 has no source and target"),
    ):
        path.write_text(json.dumps(row))
        with pytest.raises(ValueError, match=message):
            list(documents_of(path))


def test_real_data():
    path = Path(os.environ.get("MINIDISTIL_DATA", "")) / "sum-scitldr-a" / "dev.jsonl"
    if "MINIDISTIL_DATA" not in os.environ or not path.exists():
        pytest.skip("set MINIDISTIL_DATA to the folder of the data sets")
    found = list(documents_of(path))
    assert len(found) == 619 and min(len(d.sentences) for d in found) >= 1
    texts = [" ".join(d.sentences) for d in found[:100]]
    same = [sentences_of(t) == d.sentences for t, d in zip(texts, found, strict=False)]
    assert np.mean(same) > 0.8  # the rule splits as the authors of the data did
