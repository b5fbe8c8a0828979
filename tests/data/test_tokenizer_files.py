"""Byte pairs and unigrams, from the files that RoBERTa's and ALBERT's folders hold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_tokenizers import TEXTS, byte_pairs, unigrams

from minidistil.data import load_tokenizer
from minidistil.data.masking import Masking, Vocabulary, mask_tokens
from minidistil.data.tokenizer_kinds import ALBERT, ROBERTA

MAKERS = {"roberta": byte_pairs, "albert": unigrams}
UNSEEN = [*TEXTS, "Unseen ŵords, 狐 and 42!", "a <mask> b [MASK] c", "  two  spaces\t tab"]


def saved(kind, path, **config):
    tokenizer = MAKERS[kind]()
    tokenizer.save(path)
    (path / "config.json").write_text(json.dumps({"model_type": kind, **config}))
    return tokenizer


@pytest.mark.parametrize("kind", MAKERS)
def test_a_round_trip(kind, tmp_path):
    tokenizer = saved(kind, tmp_path)
    back = load_tokenizer(tmp_path)
    assert back.names == tokenizer.names == {"roberta": ROBERTA, "albert": ALBERT}[kind]
    assert back.special_ids == tokenizer.special_ids
    for name, wanted in tokenizer(UNSEEN, UNSEEN[::-1]).items():
        np.testing.assert_array_equal(back(UNSEEN, UNSEEN[::-1])[name], wanted)
    (tmp_path / "tokenizer_config.json").unlink()  # the names are known without it
    assert load_tokenizer(tmp_path).names == tokenizer.names


@pytest.mark.parametrize("kind", MAKERS)
def test_transformers_reads_the_folder(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = saved(kind, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (
        type(theirs).__name__ == {"roberta": "RobertaTokenizer", "albert": "AlbertTokenizer"}[kind]
    )
    for pairs in (None, UNSEEN[::-1]):
        wanted = theirs(UNSEEN, pairs, padding=True, return_tensors="np")
        batch = load_tokenizer(tmp_path)(UNSEEN, pairs)
        assert set(batch) == set(wanted)
        for name in batch:
            np.testing.assert_array_equal(batch[name], wanted[name], err_msg=name)
    assert (theirs.mask_token_id, theirs.pad_token_id) == (ours.mask_id, ours.pad_id)
    ids = ours(TEXTS)["input_ids"]
    for row in ids:
        assert ours.decode(row) == theirs.decode(row, skip_special_tokens=True)


def test_vocabulary_and_merges_alone(tmp_path):
    ours = saved("roberta", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"vocab.json", "merges.txt", "config.json"}
    back = load_tokenizer(tmp_path)
    for text in UNSEEN:
        np.testing.assert_array_equal(back(text)["input_ids"], ours(text)["input_ids"])


def test_the_marks_of_roberta(tmp_path):
    saved("roberta", tmp_path, max_position_embeddings=20, pad_token_id=1)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.max_length == 18  # two rows of its table are no token's
    assert tokenizer("fox " * 20)["input_ids"].shape == (1, 18)
    assert (tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id, tokenizer.unk_id) == (0, 1, 2, 3)
    batch = tokenizer("fox", "dog")
    assert set(batch) == {"input_ids", "attention_mask"}
    (a,), (b,) = (tokenizer.content([text]) for text in ("fox", "dog"))
    assert batch["input_ids"].tolist() == [[0, *a, 2, 2, *b, 2]]
    spaced = tokenizer("the <mask> sleeps")["input_ids"][0]
    assert spaced.tolist() == tokenizer("the<mask> sleeps")["input_ids"][0].tolist()


@given(text=st.text(min_size=1).filter(str.strip))
def test_bytes_know_every_text(tokenizer_of_bytes, text):
    ids = tokenizer_of_bytes.content([text])[0]
    assert tokenizer_of_bytes.unk_id not in ids
    assert tokenizer_of_bytes.decode(ids, skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def tokenizer_of_bytes():
    return byte_pairs()


@pytest.mark.parametrize(("kind", "types"), [("roberta", False), ("albert", True)])
def test_token_types(kind, types, tmp_path):
    saved(kind, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.token_types is types
    if types:
        batch = tokenizer("fox", "dog")
        second = np.flatnonzero(batch["input_ids"][0] == tokenizer.sep_id)[0] + 1
        T = batch["input_ids"].shape[1]
        np.testing.assert_array_equal(batch["token_type_ids"][0], np.arange(T) >= second)


@pytest.mark.parametrize("kind", MAKERS)
def test_masking_spares_the_special_tokens(kind):
    tokenizer = MAKERS[kind]()
    batch = tokenizer(TEXTS)
    masked = mask_tokens(
        batch, vocabulary=Vocabulary.of(tokenizer), seed=1, step=2, masking=Masking(probability=0.9)
    )
    chosen = masked["labels"] != -100
    assert not np.isin(batch["input_ids"][chosen], tokenizer.special_ids).any()
    hidden = masked["input_ids"][chosen] == tokenizer.mask_id
    assert 0.6 < hidden.mean() < 0.95


def test_a_broken_merges_file(tmp_path):
    saved("roberta", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_text("#version: 0.2\nnothing like it\n")
    with pytest.raises(ValueError, match=r"merges.txt is not a tokenizer \(.*\); save it again"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"nor vocab\.json with merges\.txt"):
        load_tokenizer(tmp_path)
