import numpy as np
import pytest

from minidistil.data import train_wordpiece
from minidistil.data.batches import Batching
from minidistil.tasks.text_classification.data import LabelledText, label_names

TEXTS = ["a good film", "a bad film, very bad", "an odd one", "good and bad and odd"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 80, min_frequency=1)


def single(labels):
    return [(text, None, label) for text, label in zip(TEXTS, labels, strict=True)]


def test_single_label(tokenizer):
    data = LabelledText(single(["good", "bad", "odd", "bad"]), tokenizer, Batching(12))
    assert data.names == ("bad", "good", "odd")
    batches = data.batches(0)
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3]
    batch = data.collate([1, 2], step=7)
    assert batch["labels"].tolist() == [0, 2]
    assert batch["labels"].dtype == np.int64
    wanted = tokenizer(TEXTS[1:3])
    for name, array in wanted.items():
        np.testing.assert_array_equal(batch[name], array)


def test_pairs_carry_token_types_for_a_model_that_reads_them(tokenizer):
    examples = [(a, b, 0) for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    assert "token_type_ids" not in LabelledText(examples, tokenizer, Batching(99)).collate([0, 1])
    tokenizer.token_types = True
    try:
        batch = LabelledText(examples, tokenizer, Batching(99)).collate([0, 1])
        wanted = tokenizer(TEXTS[:2], TEXTS[::-1][:2])
    finally:
        tokenizer.token_types = False
    for name, array in wanted.items():
        np.testing.assert_array_equal(batch[name], array)


def test_many_labels(tokenizer):
    labels = [["good"], "bad, odd", [], "good,bad,odd"]
    data = LabelledText(
        single(labels), tokenizer, Batching(99), problem_type="multi_label_classification"
    )
    assert data.names == ("bad", "good", "odd")
    hot = data.collate([0, 1, 2, 3])["labels"]
    assert hot.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert hot.dtype == np.float32


def test_regression(tokenizer):
    data = LabelledText(
        single(["1.5", 2, 0.0, "-3"]), tokenizer, Batching(99), problem_type="regression"
    )
    labels = data.collate([3, 0])["labels"]
    assert labels.tolist() == [-3, 1.5] and labels.dtype == np.float32
    assert data.names == ()


def test_evaluation_examples_stay_apart(tokenizer):
    examples = single(["1", "0", "1", "0"])
    data = LabelledText(examples[:2], tokenizer, Batching(8), evaluation=examples[2:])
    assert sorted(i for batch in data.batches(3) for i in batch) == [0, 1]
    batches = data.evaluation_batches()
    assert sorted(k for batch in batches for k in batch["labels"].tolist()) == [0, 1]
    only = LabelledText([], tokenizer, Batching(99), evaluation=examples)
    assert len(only.evaluation_batches()[0]["labels"]) == 4
    assert LabelledText(examples, tokenizer, Batching(8)).evaluation_batches() == []


def test_names_given_by_a_model(tokenizer):
    names = ("LABEL_0", "LABEL_1")
    data = LabelledText(single([1, "0", "LABEL_1", 0]), tokenizer, Batching(99), names=names)
    assert data.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="example 3 has the label '2', which is none of LABEL_0"):
        LabelledText(single([1, 0, 1, 2]), tokenizer, Batching(99), names=names)
    with pytest.raises(ValueError, match="'1', which is none of 3, 2"):
        LabelledText(single([3, 2, 1, 2]), tokenizer, Batching(99), names=("3", "2"))


def test_order_of_names():
    assert label_names(["10", "9", "-1"]) == ("-1", "9", "10")
    assert label_names([True, False, "maybe"]) == ("False", "True", "maybe")


BAD = [
    (single(["a", None, "a", "b"]), {}, "example 1 has no label"),
    (single(["1", "x", "2", "3"]), {"problem_type": "regression"}, "finite number as label"),
    (single(["1", "nan", "2", "3"]), {"problem_type": "regression"}, "finite number as label"),
    (single([1, 2, 3, 4]), {"problem_type": "multi_label_classification"}, "must be a list"),
    (single([1, 2, 3, 4]), {"problem_type": "ranking"}, "problem_type must be one of"),
    ([("a", None, 1), (" ", None, 1)], {}, "example 1 has an empty text"),
    ([("a", "b", 1), ("a", None, 1)], {}, "example 1 has one text, the first example two"),
    ([], {}, "there are no examples"),
]


@pytest.mark.parametrize(("examples", "options", "message"), BAD)
def test_bad_examples(tokenizer, examples, options, message):
    with pytest.raises(ValueError, match=message):
        LabelledText(examples, tokenizer, Batching(99), **options)
