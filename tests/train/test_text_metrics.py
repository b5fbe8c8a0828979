"""BLEU and ROUGE: the libraries' numbers, several right answers, and what to install."""

import pytest

from minidistil.tasks import text_metrics


def test_bleu_takes_any_number_of_right_answers():
    pytest.importorskip("sacrebleu")
    text = "a man rides a red bike down the street"
    assert text_metrics.bleu([text], [[text]])["bleu"] == pytest.approx(100)
    one = text_metrics.bleu([text, text], [["a man on a bike rides down"], [text]])["bleu"]
    two = text_metrics.bleu([text, text], [["a man on a bike rides down", text], [text]])["bleu"]
    assert 0 < one < two == pytest.approx(100)


def test_rouge_takes_the_best_right_answer():
    pytest.importorskip("rouge_score")
    found = text_metrics.rouge(["we prove a bound"], [["nothing alike", "we prove bounds"]])
    assert found == {"rouge1": pytest.approx(100 * 6 / 7), "rouge2": pytest.approx(80 / 2),
                     "rougeL": pytest.approx(100 * 6 / 7)}  # fmt: skip


def test_a_library_that_is_missing_is_named(monkeypatch):
    def refuse(name, *rest, **more):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"sacrebleu.*pip install 'minidistil\[eval\]'"):
        text_metrics.bleu(["a"], [["a"]])
