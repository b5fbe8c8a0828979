import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.data import check_vocabulary, load_tokenizer, train_wordpiece
from minidistil.data.tokenizer import SPECIAL

TEXTS = [
    "The quick brown fox jumps over the lazy dog; the dog sleeps.",
    "A café in Zürich: foxes, dogs and dogged jumping!",
    "Sleeping dogs lie, quick foxes jump. Brown, lazy, quicker, quickest.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 100, min_frequency=1)


def folder_with(tokenizer, path, files, config=None):
    tokenizer.save(path)
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        if name not in files:
            (path / name).unlink()
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


def test_batch_has_the_shapes_and_marks_of_bert(tokenizer):
    batch = tokenizer(["quick fox", "the lazy dog sleeps"])
    assert set(batch) == {"input_ids", "attention_mask"}
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids.dtype == mask.dtype == np.int64
    assert (ids[:, 0] == tokenizer.cls_id).all()
    assert ((ids == tokenizer.sep_id).sum(1) == 1).all()
    assert ((ids == tokenizer.pad_id) == (mask == 0)).all()
    assert mask.sum(1).max() == ids.shape[1]
    assert tokenizer.decode(ids[0]) == "quick fox"
    assert tokenizer("quick [MASK]")["input_ids"][0, -2] == tokenizer.mask_id


def test_pairs_and_token_types(tokenizer, tmp_path):
    bert = load_tokenizer(folder_with(tokenizer, tmp_path, ["vocab.txt"], {"model_type": "bert"}))
    batch = bert(["quick fox"], ["lazy dog"])
    kinds, ids = batch["token_type_ids"][0], batch["input_ids"][0]
    second = np.flatnonzero(ids == bert.sep_id)[0] + 1
    np.testing.assert_array_equal(kinds, np.arange(len(ids)) >= second)


@pytest.mark.parametrize(("model", "types"), [("bert", True), ("distilbert", False)])
def test_model_type_decides_on_token_types(tokenizer, tmp_path, model, types):
    config = {"model_type": model, "max_position_embeddings": 16}
    folder = folder_with(tokenizer, tmp_path, ["tokenizer.json", "tokenizer_config.json"], config)
    loaded = load_tokenizer(folder)
    assert loaded.token_types is types
    assert ("token_type_ids" in loaded("fox")) is types
    assert loaded.max_length == 16
    assert loaded("fox " * 50)["input_ids"].shape == (1, 16)


@given(text=st.text(min_size=1).filter(str.strip))
def test_both_files_give_the_same_ids(tokenizer, tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "both"
    if not folder.exists():
        tokenizer.save(folder / "json")
        tokenizer.save(folder / "text")
        (folder / "text" / "tokenizer.json").unlink()
    wanted = tokenizer(text)["input_ids"]
    for kind in ("json", "text"):
        np.testing.assert_array_equal(load_tokenizer(folder / kind)(text)["input_ids"], wanted)


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_reads_the_folder(tmp_path, lowercase):
    transformers = pytest.importorskip("transformers")
    ours = train_wordpiece(TEXTS, 150, lowercase=lowercase, min_frequency=1)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS, "Unseen ŵords, [MASK] and 42!"]
    wanted = theirs(texts, padding=True, return_tensors="np")
    batch = load_tokenizer(tmp_path)(texts)
    assert set(wanted) == set(batch) == {"input_ids", "attention_mask"}
    for name in batch:
        np.testing.assert_array_equal(batch[name], wanted[name], err_msg=name)
    assert theirs.mask_token_id == ours.mask_id
    assert theirs.model_max_length == ours.max_length
    pair = theirs("a fox", "a dog", return_token_type_ids=True)
    ours.token_types = True
    batch = ours("a fox", "a dog")
    assert batch["input_ids"].tolist() == [pair["input_ids"]]
    assert batch["token_type_ids"].tolist() == [pair["token_type_ids"]]


def test_saved_settings_bind_nobody(tokenizer, tmp_path):
    tokenizer.save(tmp_path, token_types=True)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None
    assert load_tokenizer(tmp_path).token_types
    assert tokenizer("fox " * 2000)["input_ids"].shape == (1, 512)


def test_vocabulary_without_lowering(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL.values(), "Fox", "fox"]) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(tmp_path)("Fox fox FOX")["input_ids"].tolist() == [[2, 5, 6, 1, 3]]
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path)("Fox fox FOX")["input_ids"].tolist() == [[2, 6, 6, 6, 3]]


def test_training_is_repeatable_and_takes_an_iterator():
    texts = [f"{a}{b}{c} {c}{a}" for a in "abcdefgh" for b in "ijklmn" for c in "opqrst"]
    first = train_wordpiece(texts, 100).get_vocab()
    assert len(first) == 100
    for _ in range(4):
        assert train_wordpiece(iter(texts), 100).get_vocab() == first


def test_special_ids_lead(tokenizer):
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id] == [0, 1, 2]
    assert tokenizer.token_to_id("[SEP]") == tokenizer.sep_id == 3
    assert tokenizer.vocab_size == len(tokenizer.get_vocab()) == 100


def test_content_is_whole_and_bare_and_leaves_the_settings_alone(tokenizer):
    long, short = tokenizer.content(["fox " * 2000, "dog"])
    assert len(long) == 2000 * len(tokenizer.content(["fox"])[0])
    assert not set(long + short) & set(tokenizer.special_ids)
    assert tokenizer("fox " * 2000)["input_ids"].shape == (1, 512)


def test_max_length(tokenizer):
    assert tokenizer("fox " * 20, max_length=7)["input_ids"].shape == (1, 7)
    assert tokenizer("fox " * 20)["input_ids"].shape[1] > 7
    for length in (2, 513):
        with pytest.raises(ValueError, match=f"max_length {length} is not between 3 and the 512"):
            tokenizer("fox", max_length=length)


def test_bad_texts(tokenizer):
    with pytest.raises(ValueError, match="no texts"):
        tokenizer([])
    with pytest.raises(ValueError, match="text 1 is empty"):
        tokenizer(["fox", " \n"])
    with pytest.raises(ValueError, match="text 0 is a int"):
        tokenizer([3])
    with pytest.raises(ValueError, match="2 texts but 1 text_pairs"):
        tokenizer(["a", "b"], ["c"])


def test_bad_folders(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor vocab\.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\na\n")
    with pytest.raises(ValueError, match="3 lines but 2 different pieces"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"no pad token '\[PAD\]'"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold one JSON object"):
        load_tokenizer(tmp_path)


def test_bad_training():
    with pytest.raises(ValueError, match="hold no letter"):
        train_wordpiece([], 100)
    with pytest.raises(ValueError, match=r"vocab_size 10 must hold 5 special tokens"):
        train_wordpiece(TEXTS, 10)


def test_check_vocabulary(tokenizer):
    check_vocabulary(tokenizer, 100)
    with pytest.raises(ValueError, match="vocab_size 99 is smaller than the tokenizer's 100"):
        check_vocabulary(tokenizer, 99)


def test_a_text_that_utf8_cannot_hold_is_refused(tokenizer):
    with pytest.raises(ValueError, match="text 1 holds"):
        tokenizer(["good", "bad \udcff"])
