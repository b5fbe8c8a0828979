"""Spans of a text: reading SQuAD's format, windows, the best spans, exact match and F1."""

import json

import numpy as np
import pytest

from minidistil.data import train_wordpiece
from minidistil.data.batches import Batching
from minidistil.tasks.question_answering.data import (
    LONGEST_QUESTION,
    Questions,
    columns_of,
    squad,
    windows,
)
from minidistil.tasks.question_answering.metrics import squad_scores
from minidistil.tasks.question_answering.spans import best_spans

TEXT = " ".join(f"word{i} and more" for i in range(30))
NEEDLE = TEXT.index("word17")


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["where is the word and more", "0 1 2 3 4 5 6 7 8 9 word"] * 3, 60)


def article(context=TEXT, answer="word17", start=NEEDLE, **more):
    answers = [{"text": answer, "answer_start": start}] if answer else []
    qa = {"id": "q", "question": "where is the word", "answers": answers, **more}
    return {"data": [{"paragraphs": [{"context": context, "qas": [qa]}]}]}


def write(tmp_path, content):
    path = tmp_path / "squad.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_both_versions(tmp_path):
    (one,) = squad(write(tmp_path, article()))
    assert one.answers == (("word17", NEEDLE),) and one.context == TEXT
    (two,) = squad(write(tmp_path, article(answer=None, is_impossible=True)))
    assert two.answers == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not in SQuAD's format"),
        ({"data": [{"paragraphs": [{}]}]}, "KeyError: 'qas'|KeyError: 'context'"),
        ({"data": []}, "no question"),
        (article(start=3), "is not at character 3, where the text reads 'd0 and'"),
        (article(answer=None), "has no answers"),
    ],
)
def test_bad_files(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        squad(write(tmp_path, content))


def test_windows_hold_the_whole_text(tokenizer):
    texts = ["where", TEXT]
    before = tokenizer(texts)["input_ids"].tolist()
    found = windows([("where is the word", TEXT)], tokenizer, 40, 10)
    assert len(found) > 3 and all(len(w.ids) <= 40 for w in found)
    covered = np.zeros(len(TEXT), bool)
    for w, after in zip(found, [*found[1:], None], strict=True):
        places = w.offsets[w.inside]
        for start, end in places:
            covered[start:end] = True
        if after is not None:
            assert (places[-10:] == after.offsets[after.inside][:10]).all()
    assert covered[[i for i, c in enumerate(TEXT) if c != " "]].all()
    assert tokenizer(texts)["input_ids"].tolist() == before  # its own settings are back
    with pytest.warns(UserWarning, match="1 of 1 question is longer than 64 pieces"):
        long = windows([("word " * 99, TEXT)], tokenizer, 100, 10)[0]
    assert (~long.inside).sum() == LONGEST_QUESTION + 3
    with pytest.raises(ValueError, match="a stride of 33 must be less than the 32 pieces"):
        windows([("where is the word", TEXT)], tokenizer, 40, 33)


def test_labels_are_where_the_answer_is_whole(tmp_path, tokenizer):
    questions = squad(write(tmp_path, article()))
    data = Questions(questions, tokenizer, Batching(10_000), max_length=40, stride=10)
    (indices,) = data.batches(0)
    batch = data.collate(indices)
    found = 0
    for row, i in enumerate(indices):
        window, (start, end) = (
            data.windows[i],
            (batch[f"{name}_positions"][row] for name in ("start", "end")),
        )
        if start:
            found += 1
            assert TEXT[window.offsets[start, 0] : window.offsets[end, 1]] == "word17"
        else:
            assert end == 0
    assert found >= 1
    assert columns_of(("word17", NEEDLE), data.windows[0]) == (0, 0)


def test_batches_to_evaluate_on_say_what_they_ask(tmp_path, tokenizer):
    questions = squad(write(tmp_path, article()))
    data = Questions([], tokenizer, Batching(80), max_length=40, stride=10, evaluation=questions)
    batches = data.evaluation_batches()
    assert sum(len(batch["asked"]) for batch in batches) == len(data.windows)
    for batch in batches:
        for row, (question, window) in zip(batch["input_ids"], batch["asked"], strict=True):
            assert question == questions[0]
            np.testing.assert_array_equal(row[: len(window.ids)], window.ids)
    with pytest.raises(ValueError, match="no questions"):
        Questions([], tokenizer, Batching(80), max_length=40, stride=10)


@pytest.mark.parametrize("no_answer", [False, True])
def test_the_best_span_is_the_best_of_all(tokenizer, no_answer):
    """Against trying every pair; one window and many."""
    rng = np.random.default_rng(0)
    for length in (40, 400):
        parts = [
            (w, rng.normal(size=(len(w.ids), 2)) * 3)
            for w in windows([("where is the word", TEXT)], tokenizer, length, 10)
        ]
        tried = {
            (w.offsets[s, 0], w.offsets[e, 1]): z[s, 0] + z[e, 1]
            for w, z in parts
            for s in np.flatnonzero(w.inside)
            for e in np.flatnonzero(w.inside)
            if 0 <= e - s < 5
        }
        best = max(tried, key=tried.get)
        sums = [
            np.log(sum(np.exp(z[w.inside, side]).sum() + no_answer * np.exp(z[0, side])
                       for w, z in parts)) for side in (0, 1)
        ]  # fmt: skip
        spans = best_spans(parts, n_best=1000, longest=5, no_answer=no_answer)
        top = next(span for span in spans if span.end)
        assert (top.start, top.end) == best
        assert top.score == pytest.approx(np.exp(tried[best] - sum(sums)))
        assert [s.score for s in spans] == sorted((s.score for s in spans), reverse=True)
        null = [span for span in spans if not span.end]
        assert len(null) == no_answer
        if no_answer:
            least = min(z[0].sum() for _, z in parts)
            assert null[0].score == pytest.approx(np.exp(least - sum(sums)))


def test_exact_match_and_f1():
    said = ["The Cat!", "a dog barks", "", "", "bird"]
    right = [["cat"], ["the dog", "cats"], [], ["fish"], []]
    found = squad_scores(said, right)
    f1 = [1, 2 * 1 / 3, 1, 0, 0]
    assert found["exact"] == pytest.approx(2 / 5)
    assert found["f1"] == pytest.approx(np.mean(f1))
    assert found["has_answer_f1"] == pytest.approx(np.mean([1, 2 / 3, 0]))
    assert found["no_answer_f1"] == pytest.approx(1 / 2)
    assert set(squad_scores(["x"], [["x"]])) == {"exact", "f1"}
