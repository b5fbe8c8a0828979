"""generate, and the pipeline behind it, on a small GPT-2 with its own byte pairs."""

import json

import numpy as np
import pytest
import tokenizers

import minidistil as md
from minidistil.cli import main
from minidistil.config import Gpt2Config
from minidistil.data import load_tokenizer
from minidistil.tasks.pipeline import pipeline

TEXTS = ["the cat sat on the mat", "a dog ran — straße 🙂 after the cat", "the mat was red"] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """vocab.json and merges.txt, as GPT-2 is published, and a model that fits them."""
    path = tmp_path_factory.mktemp("gpt2")
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(TEXTS, vocab_size=290, special_tokens=["<|endoftext|>"])
    bpe.save_model(str(path))
    config = Gpt2Config(vocab_size=bpe.get_vocab_size(), n_positions=64, n_embd=16, n_layer=2,
                        n_head=2, bos_token_id=0, eos_token_id=0)  # fmt: skip
    model = md.from_config(config, seed=3)
    model.update({n: 12 * p for n, p in model.params.items() if p.ndim == 2})  # no flat answers
    model.save_pretrained(path)
    return path


def test_the_tokenizer_reads_bytes_and_adds_nothing(folder, tmp_path):
    tokenizer = load_tokenizer(folder)
    text = "the cat — 🙂"
    ids = tokenizer(text)["input_ids"][0]
    assert tokenizer.decode(ids) == text and 0 not in ids
    tokenizer.save(tmp_path)
    np.testing.assert_array_equal(load_tokenizer(tmp_path)(text)["input_ids"][0], ids)
    transformers = pytest.importorskip("transformers")
    for place in (folder, tmp_path):
        theirs = transformers.GPT2TokenizerFast.from_pretrained(place)
        assert theirs(text)["input_ids"] == list(ids)


def test_several_texts_as_each_alone(folder):
    predict = pipeline("text-generation", folder)
    together = predict(TEXTS[:3], max_new_tokens=7)
    assert together == [predict(text, max_new_tokens=7) for text in TEXTS[:3]]
    for text, (answer,) in zip(TEXTS, together, strict=False):
        assert answer["generated_text"].startswith(text)


def test_pieces_make_the_whole(folder):
    predict = pipeline("text-generation", folder)
    options = {"max_new_tokens": 30, "temperature": 1.0, "seed": 2}
    (answer,) = predict(TEXTS[0], **options)
    said = TEXTS[0] + "".join(predict.pieces(TEXTS[0], **options))
    assert answer["generated_text"].rstrip("\N{REPLACEMENT CHARACTER}").startswith(said.rstrip())
    assert len(said) > len(TEXTS[0])


def test_the_command(folder, capsys):
    how = ["generate", "the cat", "--model", str(folder), "--max-new-tokens", "5"]
    assert main(how) == 0
    shown = capsys.readouterr().out
    assert main([*how, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert shown.startswith("the cat")
    assert answer["generated_text"].startswith("the cat")


def test_predict_says_as_many_words_as_one_asks_for(folder, capsys):
    argv = ["predict", "--model", str(folder), "--max-new-tokens", "3", "--json", *TEXTS[:2]]
    assert main(argv) == 0
    wanted = pipeline("text-generation", folder)(TEXTS[:2], max_new_tokens=3)
    assert json.loads(capsys.readouterr().out) == wanted
    assert main([*argv, "--top-k", "2"]) == 2
    assert "--top-k is not for text-generation" in capsys.readouterr().err


def test_drawn_words_are_the_seed_s(folder, capsys):
    how = ["generate", "the cat", "--model", str(folder), "--temperature", "2", "--top-k", "40",
           "--top-p", "0.9", "--max-new-tokens", "12", "--seed"]  # fmt: skip
    shown = []
    for seed in "335":
        assert main([*how, seed]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != shown[2]


def test_bad_input(folder, capsys):
    how = ["generate", "the cat", "--model", str(folder)]
    assert main([*how, "--top-p", "2"]) == 2
    assert "top_p above 0" in capsys.readouterr().err
    assert main([*how, "--max-new-tokens", "500"]) == 2
    assert "do not fit 64 positions" in capsys.readouterr().err


@pytest.mark.parametrize("name, billions", [
    ("distilgpt2", 0.0819), ("gpt2", 0.1244), ("gpt2-xl", 1.558), ("gpt3-13b", 12.85),
    ("gpt3-175b", 174.6),
])  # fmt: skip
def test_sizes_by_formula(name, billions, capsys):
    assert main(["info", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] / 1e9 == pytest.approx(billions, rel=1e-3)
    assert sum(p["parameters"] for p in found["table"]) == found["parameters"]


@pytest.mark.parametrize("size", ["125M", "350M", "760M", "1.3B", "2.7B", "6.7B", "13.0B", "175B"])
def test_sizes_are_as_published(size, capsys):
    """Brown et al., 2020, table 2.1, as they round."""
    name = f"gpt3-{size.replace('.0', '').lower()}"
    assert main(["info", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["parameters"]
    published = float(size[:-1]) * {"M": 1e6, "B": 1e9}[size[-1]]
    assert found == pytest.approx(published, rel=0.025)
