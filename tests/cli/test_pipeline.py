"""The Python door: answers as transformers' pipelines give them."""

import warnings

import numpy as np
import pytest
from families_world import FAMILIES, family_folder

from minidistil.tasks.pipeline import pipeline

TEXTS = ["the film was [MASK]", "we loved the [MASK] in it", "what a [MASK] plot"]


def theirs(task, folder):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.pipeline(task, str(folder), device="cpu")


def ours(task, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heads that the task does not use
        return pipeline(task, folder, backend="numpy")


def same(mine, other):
    """Equal structure, texts, numbers; a vector to the size of its largest entry, in float32."""
    assert type(mine) is type(other)
    if isinstance(mine, list) and all(isinstance(x, float) for x in other):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5 * np.abs(other).max(initial=0))
    elif isinstance(mine, list):
        assert len(mine) == len(other)
        for x, y in zip(mine, other, strict=True):
            same(x, y)
    elif isinstance(mine, dict):
        assert mine.keys() == other.keys()
        for key in mine:
            same(mine[key], other[key])
    elif isinstance(mine, float):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    else:
        assert mine == other


@pytest.mark.filterwarnings("ignore")
def test_fill_mask_is_transformers(world):
    mine, other = ours("fill-mask", world.teacher), theirs("fill-mask", world.teacher)
    for inputs in (TEXTS[0], TEXTS[:1], TEXTS, "the [MASK] was [MASK]"):
        same(mine(inputs), other(inputs))
    same(mine(TEXTS, top_k=2), other(TEXTS, top_k=2))


@pytest.mark.filterwarnings("ignore")
def test_text_classification_is_transformers(world):
    task = "text-classification"
    mine, other = ours(task, world.classifier), theirs(task, world.classifier)
    pair = {"text": "a great film", "text_pair": "a dull plot"}
    for inputs in (TEXTS[0], TEXTS[:1], TEXTS, pair, [pair, pair]):
        same(mine(inputs), other(inputs))
    for inputs in (TEXTS[0], TEXTS):
        same(mine(inputs, top_k=None), other(inputs, top_k=None))
        same(mine(inputs, top_k=1), other(inputs, top_k=1))


@pytest.mark.filterwarnings("ignore")
def test_feature_extraction_is_transformers(world):
    task = "feature-extraction"
    mine, other = ours(task, world.teacher), theirs(task, world.teacher)
    for inputs in (TEXTS[0], TEXTS):
        same(mine(inputs), other(inputs))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_and_tokenizers(family, tmp_path):
    words = family_folder(family, tmp_path / "words")
    mask = ours("fill-mask", words).tokenizer.names["mask"]
    texts = [text.replace("[MASK]", mask) for text in (*TEXTS, "the [MASK] was [MASK]")]
    for task, inputs in (("fill-mask", texts), ("feature-extraction", TEXTS)):
        same(ours(task, words)(inputs), theirs(task, words)(inputs))
    classes, pair = family_folder(family, tmp_path / "classes", "text-classification"), TEXTS[:2]
    pair = dict(zip(("text", "text_pair"), pair, strict=True))
    mine, other = (door("text-classification", classes) for door in (ours, theirs))
    for inputs in (TEXTS, pair):
        same(mine(inputs, top_k=None), other(inputs, top_k=None))


def test_shapes_without_transformers(world):
    words = ours("fill-mask", world.teacher)
    assert len(words(TEXTS[0])) == 5 and len(words(TEXTS)) == 3
    assert sum(w["score"] for w in words(TEXTS[0], top_k=len(words.tokenizer.get_vocab()))) == (
        pytest.approx(1)
    )
    classes = ours("text-classification", world.classifier)
    assert classes("fine")[0]["label"] in ("good", "bad")
    assert len(classes(["fine", "dull"], top_k=None)[1]) == 2


def test_many_texts_answer_as_one_by_one(world):
    predict = ours("feature-extraction", world.teacher)
    texts = [f"{text} film" * (1 + i % 3) for i, text in enumerate(12 * TEXTS)]
    for text, vectors in zip(texts, predict(texts), strict=True):
        np.testing.assert_allclose(vectors, predict(text), rtol=1e-4, atol=1e-5)


def test_a_text_too_long_is_said(world):
    predict = ours("text-classification", world.classifier)
    with pytest.warns(UserWarning, match="text 1 is longer than the model's 32 tokens"):
        predict(["short", "long " * 100])


@pytest.mark.parametrize("inputs", ["", [], ["fine", ""], [{"text": "a"}, "b"], [3]])
def test_bad_texts(world, inputs):
    with pytest.raises(ValueError):
        ours("text-classification", world.classifier)(inputs)


def test_bad_task_and_top_k(world):
    with pytest.raises(ValueError, match="task must be one of"):
        pipeline("dancing", world.teacher)
    with pytest.raises(ValueError, match="top_k"):
        ours("fill-mask", world.teacher)(TEXTS[0], top_k=0)
    with pytest.raises(ValueError, match=r"text 1 has no \[MASK\]"):
        ours("fill-mask", world.teacher)([TEXTS[0], "no gap"])
