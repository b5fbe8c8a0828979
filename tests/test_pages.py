"""What `pages.py` takes for the same text as that of a stored page."""

import pages
import pytest


@pytest.mark.parametrize(("mine", "stored"), [
    ("loss 5.231", "loss 5.233"),
    ("loss 5.231 and 300 words", "loss 5.231   and 300 words"),
    ("right 31%, loss 1,000.5", "right 32%, loss 1,000.1"),
    ("error 1.3e-07", "error 9.1e-09"),
    ("error 1.30e-02", "error 1.31e-02"),
    ("[ 0.12 -0.30]", "[0.12 −0.31]"),
])  # fmt: skip
def test_the_same_but_for_rounding(mine, stored):
    assert pages.difference(mine, stored) == ""


@pytest.mark.parametrize(("mine", "stored", "words"), [
    ("loss 5.231", "loss 5.431", "has 5.231, stored is 5.431"),
    ("300 words", "301 words", "has 300, stored is 301"),
    ("loss 5.2", "loss is 5.2", "is 'loss 5.2', stored is 'loss is 5.2'"),
    ("a\nb", "a", "line 2 is 'b', stored is ''"),
    ("right 31%", "right 35%", "has 31%, stored is 35%"),
    ("error 1.3e-03", "error 9.1e-07", "has 1.3e-03"),
    ("the film", "the movie", "is 'the film'"),
])  # fmt: skip
def test_another_text(mine, stored, words):
    assert words in pages.difference(mine, stored)


def cell(source, text):
    return {
        "source": source,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": text}],
    }


def test_marked_cells_are_compared_in_their_words_or_not_at_all():
    a, b = cell("x  # measured here", "12 ms\n"), cell("x  # measured here", "9,700 ms\n")
    assert list(pages.differences([a], [b])) == []
    b = cell("x  # measured here", "12 s\n")
    assert list(pages.differences([a], [b])) == ["cell 1: line 1 is '12 ms', stored is '12 s'"]
    a, b = cell("# of this machine", "no AMX"), cell("# of this machine", "AMX: 900 GFLOP/s\n")
    assert list(pages.differences([a], [b])) == []


def test_an_error_and_a_changed_cell_are_differences():
    failed = {"source": "x", "outputs": [{"output_type": "error", "ename": "KeyError"}]}
    assert "KeyError" in next(pages.differences([failed], [cell("x", "")]))
    changed = list(pages.differences([cell("x", "1"), cell("y", "")], [cell("z", "1")]))
    assert [text.split(":")[0] for text in changed] == [
        "2 cells, stored are 1", "cell 1 is another one",
    ]  # fmt: skip
