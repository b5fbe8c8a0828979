"""TinyBERT's data augmentation: which words are replaced, by what, and the same again."""

import json

import numpy as np
import pytest
from model_cases import CASES, SMALL, model_of

from minidistil.cli import main
from minidistil.data import train_wordpiece
from minidistil.tasks.augmentation import FUNCTION_WORDS, Augmenter, read_vectors

TEXTS = [f"The film was {a}, and the {b} {c} it!" for a in ("good", "long", "dull")
         for b in ("actors", "critics") for c in ("liked", "hated", "saw")]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS * 3, 110)


@pytest.fixture(scope="module")
def model(tokenizer):
    return model_of(CASES["bert-mlm"], SMALL | {"V": tokenizer.vocab_size, "P": 40})


def replaced(old, new):
    """Pairs of words where two texts differ."""
    both = [text.replace(",", " ,").replace("!", " !").split() for text in (old, new)]
    return [(a, b) for a, b in zip(*both, strict=True) if a != b]


def test_some_words_are_replaced_and_the_rest_stays(model, tokenizer):
    text = "The film was good, and 2 actors liked it!"
    texts = Augmenter(model, tokenizer, probability=0.5)(text, 20)
    assert texts[0] == text and len(set(texts)) == len(texts) > 10
    changed = {a for new in texts for a, _ in replaced(text, new)}
    assert changed <= {"film", "good", "actors", "liked"} and len(changed) >= 3
    for new in texts:
        assert new.endswith(" it!") and ", and 2 " in new


def test_the_same_seed_and_place_give_the_same_texts(model, tokenizer):
    def texts(seed, number):
        return Augmenter(model, tokenizer, seed=seed)(TEXTS[0], 8, number)

    assert texts(1, 2) == texts(1, 2)
    assert texts(1, 2) != texts(1, 3) and texts(1, 2) != texts(2, 2)


def test_candidates_are_the_model_s_likeliest_words(model, tokenizer):
    """The word is masked in a first reading, and stands in the second."""
    text, M = "the film was good", 4
    augment = Augmenter(model, tokenizer, candidates=M, probability=1.0)
    place = 2  # [CLS] the film
    assert tokenizer.encodings([text])[0].tokens[place] == "film"
    twice = tokenizer([text], [text])
    types = tokenizer.encodings([text], [text])[0].type_ids
    ids = twice["input_ids"].copy()
    ids[0, place] = tokenizer.mask_id
    given = {"token_type_ids": twice["token_type_ids"]} if "token_type_ids" in twice else {}
    assert len(types) == ids.shape[1]
    z = model.forward(ids, twice["attention_mask"], **given).logits[0, place]
    names = {i: w for w, i in tokenizer.get_vocab().items()}
    best = [names[int(i)] for i in np.argsort(-z, kind="stable")[:M]]
    expected = {w for w in best if not w.startswith(("##", "["))} or {"film"}
    seen = {dict(replaced(text, new)).get("film", "film") for new in augment(text, 60)[1:]}
    assert seen <= expected | {"film"} and expected - {"film"} <= seen


def test_a_word_of_several_pieces_gets_its_neighbours(model, tokenizer, tmp_path):
    word = "goodfilm"
    assert len(tokenizer.content([word])[0]) > 1
    vectors = tmp_path / "vectors.txt"
    rows = {word: (1, 0), "near": (0.9, 0.1), "far": (-1, 0.2), "nearer": (2, 0.1)}
    vectors.write_text("".join(f"{w} {x} {y}\n" for w, (x, y) in rows.items()))
    augment = Augmenter(model, tokenizer, candidates=2, probability=1.0, vectors=vectors)
    assert set(augment(word, 30)[1:]) == {"near", "nearer"}
    assert set(augment(word.title(), 30)[1:]) == {"Near", "Nearer"}
    assert augment("unheardof", 5) == ["unheardof"]
    own = Augmenter(model, tokenizer, candidates=2, probability=1.0)(word, 30)
    assert len(own) == 3 and all(w in tokenizer.get_vocab() for w in own[1:])


def test_of_a_pair_one_side_at_a_time(model, tokenizer):
    a, b = "the film was good", "the critics hated it"
    pairs = Augmenter(model, tokenizer).pair(a, b, 6)
    assert pairs[0] == (a, b) and len(pairs) > 6
    assert all(first == a or second == b for first, second in pairs)
    assert any(first != a for first, _ in pairs) and any(second != b for _, second in pairs)


def test_a_text_without_room_for_two_readings(model, tokenizer):
    long = " ".join(["good film"] * 15)
    assert len(tokenizer.content([long])[0]) * 2 > 40
    short = Augmenter(model, type(tokenizer)(tokenizer.backend, max_length=40))
    assert len(short(long, 3)) > 1


def test_function_words_are_lower_case_and_stay():
    assert {"the", "of", "was", "not"} <= FUNCTION_WORDS
    assert all(w == w.lower() for w in FUNCTION_WORDS)


@pytest.mark.parametrize(
    "text, words",
    [
        ("a 1 2\nb 1\n", "line 2 is not a word and its vector"),
        ("a x y\n", "line 1 is not"),
        ("", "no word"),
    ],
)
def test_bad_vectors(text, words, tmp_path):
    path = tmp_path / "v.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_vectors(path)
    with pytest.raises(ValueError, match="is not there"):
        read_vectors(tmp_path / "none")


def test_refused(model, tokenizer):
    with pytest.raises(ValueError, match="for fill-mask, not for 'text-classification'"):
        Augmenter(model_of(CASES["bert-single"], SMALL), tokenizer)
    with pytest.raises(ValueError, match=r"not 0 and 0\.4"):
        Augmenter(model, tokenizer, candidates=0)
    with pytest.raises(ValueError, match="not 15 and 0"):
        Augmenter(model, tokenizer, probability=0)


def test_the_command(model, tokenizer, tmp_path, capsys):
    folder, data, out = tmp_path / "model", tmp_path / "in.tsv", tmp_path / "out.jsonl"
    model.save_pretrained(folder)
    tokenizer.save(folder, token_types=True)
    data.write_text("sentence\tlabel\n" + "".join(f"{t}\t{i % 2}\n" for i, t in enumerate(TEXTS)))
    argv = ["augment", "--model", str(folder), "--data", str(data), "--copies", "4", "--backend",
            "numpy", "--out"]  # fmt: skip
    assert main([*argv, str(out)]) == 0
    assert "18 examples became" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) > 40 and [r["text"] for r in rows if r["text"] in TEXTS] == TEXTS
    assert {r["label"] for r in rows} == {"0", "1"}
    assert main([*argv, str(out)]) == 2
    assert main([*argv, str(tmp_path / "again.jsonl")]) == 0
    assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()
    assert main([*argv, str(tmp_path / "x.jsonl"), "--vectors", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "x.jsonl").exists()
