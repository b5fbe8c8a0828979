"""Words with tags: reading, alignment with pieces, and the F1 of entities."""

import numpy as np
import pytest

from minidistil.data import train_wordpiece
from minidistil.data.batches import Batching
from minidistil.tasks.token_classification.data import TaggedText, tag_names, tagged_sentences
from minidistil.tasks.token_classification.metrics import entities, entity_scores

CONLL = "-DOCSTART- O\n\nEU B-ORG\nrejects O\n\n\nPeter\tx\tB-PER\nBlackburn\tx\tI-PER\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["eu rejects a german call", "peter blackburn"] * 3, 60)


def write(tmp_path, text, name="data.conll"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_columns_and_json_lines(tmp_path):
    wanted = [(["EU", "rejects"], ["B-ORG", "O"]), (["Peter", "Blackburn"], ["B-PER", "I-PER"])]
    assert list(tagged_sentences(write(tmp_path, CONLL))) == wanted
    lines = '{"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}\n' + (
        '{"words": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]}\n'
    )
    assert list(tagged_sentences(write(tmp_path, lines, "data.jsonl"))) == wanted


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "a.conll", "holds no sentence"),
        ("EU B-ORG\nrejects\n", "a.tsv", "line 2: 'rejects' has no tag"),
        ('{"tokens": ["a"], "tags": []}\n', "a.jsonl", "line 1: a sentence is"),
        ('{"tokens": ["a", "b"], "tags": ["O"]}\n', "a.jsonl", "as many tags as tokens"),
        ('{"tokens": ["a"], "tags": [3]}\n', "a.jsonl", "a sentence is"),
    ],
)
def test_bad_files(tmp_path, text, name, message):
    with pytest.raises(ValueError, match=message):
        list(tagged_sentences(write(tmp_path, text, name)))


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="no data at"):
        list(tagged_sentences(tmp_path / "none"))


def test_names_begin_with_o_and_keep_kinds_together():
    assert tag_names(["I-B", "B-A", "O", "B-B", "I-A"]) == ("O", "B-A", "I-A", "B-B", "I-B")
    assert tag_names(["VERB", "NOUN"]) == ("NOUN", "VERB")


def test_the_first_piece_of_a_word_has_its_label(tokenizer):
    sentences = [(["unrejects", "eu"], ["B-X", "I-X"]), (["a"], ["O"])]
    names = ("O", "B-X", "I-X")
    data = TaggedText(sentences, tokenizer, Batching(99), names=names)
    batch = data.collate([0, 1])
    encoding = tokenizer.words([sentences[0][0]])[0]
    assert encoding.word_ids[0] is None and encoding.word_ids.count(0) > 1
    second = encoding.word_ids.index(1)
    wanted = np.full_like(batch["labels"], -100)
    wanted[0, 1], wanted[0, second], wanted[1, 1] = 1, 2, 0
    np.testing.assert_array_equal(batch["labels"], wanted)
    assert batch["attention_mask"].sum() == len(encoding.ids) + 3
    with pytest.raises(ValueError, match=r"sentence 1 has the tag 'O'.*B-X, I-X"):
        TaggedText(sentences, tokenizer, Batching(99), names=names[1:])
    with pytest.raises(ValueError, match="no sentences"):
        TaggedText([], tokenizer, Batching(99), names=names)


# What seqeval 0.0.10 says of GUESS against TRUTH.
SEQEVAL = {"precision": 0.4444444444444444, "recall": 0.5, "f1": 0.47058823529411764}
TRUTH = [
    ["O", "B-A", "I-A", "O", "B-B"], ["B-A", "B-A", "I-B"], ["I-A", "I-A", "O", "I-B"],
    ["O", "O"], ["B-A", "I-A", "I-A"],
]  # fmt: skip
GUESS = [
    ["O", "B-A", "I-A", "O", "B-A"], ["B-A", "I-A", "I-B"], ["B-A", "I-A", "O", "I-B"],
    ["B-B", "O"], ["B-A", "B-A", "I-A"],
]  # fmt: skip


def test_entities_as_seqeval_counts_them():
    assert entities(TRUTH[2]) == {("A", 0, 1), ("B", 3, 3)}
    assert entities(TRUTH[1]) == {("A", 0, 0), ("A", 1, 1), ("B", 2, 2)}
    found = entity_scores(GUESS, TRUTH)
    assert found == pytest.approx(SEQEVAL)
    nothing = entity_scores([["O"]], [["O"]])
    assert nothing == {"precision": 0, "recall": 0, "f1": 0}
