"""Pairs of texts: every form that they come in, and what a batch of them holds."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from minidistil.data import train_wordpiece
from minidistil.data.batches import Batching
from minidistil.data.text_pairs import TextPairs, text_pairs

PAIRS = [("a dog runs", ["ein hund rennt"]), ("two men sit on a wall", ["zwei sitzen"]),
         ("a child", ["ein kind", "das kind"])]  # fmt: skip


def tokenizer():
    return train_wordpiece([text for s, ts in PAIRS for text in (s, *ts)], 90, min_frequency=1)


def test_two_files_line_by_line(tmp_path):
    with gzip.open(tmp_path / "train.en.gz", "wt", encoding="utf-8") as file:
        file.write("a dog\na cat\n")
    (tmp_path / "train.de").write_text("ein Hund\neine Katze\n", encoding="utf-8")
    found = text_pairs(tmp_path / "train.en.gz", target_file=tmp_path / "train.de")
    assert list(found) == [("a dog", ["ein Hund"]), ("a cat", ["eine Katze"])]


def test_a_table_by_number_or_by_name(tmp_path):
    (tmp_path / "a.txt").write_text("Go.\tVa !\twho\nRun.\tCours !\twho\n", encoding="utf-8")
    found = text_pairs(tmp_path / "a.txt", source_column="0", target_column="1")
    assert list(found) == [("Go.", ["Va !"]), ("Run.", ["Cours !"])]
    (tmp_path / "b.tsv").write_text("en\tfr\nGo.\tVa !\n", encoding="utf-8")
    found = text_pairs(tmp_path / "b.tsv", source_column="fr", target_column="en")
    assert list(found) == [("Va !", ["Go."])]


def test_json_with_sentences_and_several_targets(tmp_path):
    rows = [{"source": ["One.", "Two."], "target": ["a", "b"]}, {"source": "Three.", "target": "c"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(text_pairs(tmp_path / "a.jsonl")) == [("One. Two.", ["a", "b"]), ("Three.", ["c"])]
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "long", "summary": "short"}))
    assert list(text_pairs(tmp_path / "b.jsonl")) == [("long", ["short"])]


def test_what_does_not_fit_is_refused(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("a\nb\n")
    two.write_text("c\n")
    with pytest.raises(ValueError, match=r"2 lines.*1; line i"):
        list(text_pairs(one, target_file=two))
    with pytest.raises(FileNotFoundError, match="no data at"):
        list(text_pairs(one, target_file=tmp_path / "none"))
    two.write_text("c\n\n")
    with pytest.raises(ValueError, match="line 2: source and target must be texts"):
        list(text_pairs(one, target_file=two))
    (tmp_path / "a.jsonl").write_text('{"source": "a", "other": "b"}')
    with pytest.raises(ValueError, match="no source and target, but 'source', 'other'"):
        list(text_pairs(tmp_path / "a.jsonl"))
    with pytest.raises(ValueError, match="no source and target"):
        list(text_pairs(tmp_path / "a.jsonl", source_column="source", target_column="target"))
    with pytest.raises(ValueError, match="no pairs"):
        TextPairs([], tokenizer(), Batching(9))


def test_a_batch_says_what_the_decoder_says():
    read = tokenizer()
    with pytest.warns(UserWarning, match="of 3 texts (is|are) longer than"):
        data = TextPairs(PAIRS, read, Batching(1000), max_length=6, max_target_length=4)
    (indices,) = data.batches(0)
    batch = data.collate(indices)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    for i, ids, labels in zip(indices, batch["input_ids"], batch["labels"], strict=True):
        _, (target, *_) = PAIRS[i]
        assert ids[0] == read.cls_id and (ids != read.pad_id).sum() <= 6
        said = labels[labels != -100]
        assert said[-1] == read.sep_id and len(said) <= 3
        assert target.startswith(read.decode(said[:-1])) and read.decode(said)
    whole = TextPairs(PAIRS, read, Batching(1000)).collate(np.arange(3))["labels"]
    assert (whole[:, 0] >= 0).all() and (whole[:, -1] == -100).any()


def test_evaluation_keeps_every_right_answer():
    data = TextPairs(
        PAIRS[:1], tokenizer(), Batching(12), evaluation=PAIRS[1:], search={"num_beams": 2}
    )
    batches = data.evaluation_batches()
    texts = [targets for batch in batches for targets in batch["wanted"].texts]
    assert sorted(texts) == sorted(targets for _, targets in PAIRS[1:])
    assert batches[0]["wanted"].search == {"num_beams": 2}
    assert np.concatenate(data.batches(3)).tolist() == [0]
    assert TextPairs(PAIRS, tokenizer(), Batching(9)).evaluation_batches() == []


@pytest.mark.parametrize(("name", "count", "first", "how"), [
    ("mt-multi30k-en-de/val.en.gz", 1014, "A group of men are loading cotton onto a truck",
     {"target_file": "mt-multi30k-en-de/val.de.gz"}),
    ("mt-tatoeba-en-fr-5k/eng-fra.txt", 5000, "Go.", {"source_column": 0, "target_column": 1}),
    ("sum-scitldr-a/dev.jsonl", 619, None, {}),
])  # fmt: skip
def test_real_data(name, count, first, how):
    folder = os.environ.get("MINIDISTIL_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip("set MINIDISTIL_DATA to the folder of the data sets")
    if "target_file" in how:
        how = {"target_file": Path(folder) / how["target_file"]}
    found = list(text_pairs(Path(folder) / name, **how))
    assert len(found) == count
    assert first is None or found[0][0] == first
    assert name.startswith("mt") or any(len(targets) > 1 for _, targets in found)
