"""Files of a tokenizer whose values are of another type than they are read as."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_tokenizers import TEXTS, byte_pairs, unigrams

from minidistil.cli import main
from minidistil.data import load_tokenizer, train_wordpiece

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
KINDS = {
    "vocab.txt": (train_wordpiece(TEXTS, 90, min_frequency=1), "tokenizer.json"),
    "merges.txt": (byte_pairs(), "tokenizer.json"),
    "WordPiece": (train_wordpiece(TEXTS, 90, min_frequency=1), "vocab.txt"),
    "BPE": (byte_pairs(), "merges.txt"),
    "Unigram": (unigrams(), None),
}
KEYS = (
    "tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars",
    "add_prefix_space", "model_max_length", "max_len", "pad_token", "unk_token", "cls_token",
    "sep_token", "mask_token", "bos_token", "additional_special_tokens", "extra_special_tokens",
    "added_tokens_decoder", "model_input_names", "truncation_side", "split_special_tokens",
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    """Of every kind; what a test writes into it the next writes anew."""
    path = tmp_path_factory.mktemp("kind")
    tokenizer, without = KINDS[request.param]
    tokenizer.save(path)
    if without:
        (path / without).unlink()
    return path


def changed(folder, name, key, value):
    """The folder with this value at a key of one file, the other keys as they were saved."""
    before = folder / "before.json"
    if not before.exists():
        before.write_text((folder / CONFIG).read_text())
    for other in (MAP, ADDED, "config.json"):
        (folder / other).unlink(missing_ok=True)
    saved = json.loads(before.read_text())
    (folder / CONFIG).write_text(json.dumps(saved))
    (folder / name).write_text(json.dumps({**(saved if name == CONFIG else {}), key: value}))
    return folder


def ids(folder):
    return load_tokenizer(folder)("The fox sleeps.")["input_ids"].tolist()


# ------------------------------------------------------- what can mean one thing


@pytest.mark.parametrize("value", [16, 16.0, "16", " 16 "])
def test_a_length_is_read(folder, value):
    """Was: "16" ended in a TypeError: '<' not supported between 'str' and 'int'.
    Right: a whole number is one however it is written; transformers fails at "16" later."""
    assert load_tokenizer(changed(folder, CONFIG, "model_max_length", value)).max_length == 16


@pytest.mark.parametrize("value", [None, 1e30, 10**40, float("inf")])
def test_no_limit_is_read(folder, value):
    """Was: Infinity ended in an OverflowError.
    Right: what transformers writes for "no limit", and what is larger, is none."""
    assert load_tokenizer(changed(folder, CONFIG, "model_max_length", value)).max_length == 512


@pytest.mark.parametrize("value", [False, "false", "False"])
def test_a_flag_is_read(tmp_path, value):
    """Was: the string "false" was true.
    Right: it can mean one thing only."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nFox\nfox\n")
    (tmp_path / CONFIG).write_text(json.dumps({"do_lower_case": value}))
    assert load_tokenizer(tmp_path)("Fox")["input_ids"].tolist() == [[2, 5, 3]]


def test_a_token_is_a_string_or_an_object(folder):
    """Was: a string or an object with its content, which holds; its flags were dropped.
    Right: both, and an empty string names none, as in transformers."""
    wanted = ids(folder)
    mask = load_tokenizer(folder).names["mask"]
    for value in (mask, {"content": mask}, {"content": mask, "lstrip": True}, None, ""):
        assert ids(changed(folder, CONFIG, "mask_token", value)) == wanted


# ------------------------------------------------------- what is refused

WRONG = [
    (CONFIG, "model_max_length", -1, "a whole number of at least 3"),
    (CONFIG, "model_max_length", [5], "a whole number of at least 3"),
    (CONFIG, "model_max_length", 2.5, "a whole number of at least 3"),
    (CONFIG, "model_max_length", True, "a whole number of at least 3"),
    (CONFIG, "model_max_length", "many", "a whole number of at least 3"),
    (CONFIG, "model_max_length", float("nan"), "a whole number of at least 3"),
    (CONFIG, "mask_token", 3, "a string, or an object whose content is one"),
    (CONFIG, "mask_token", ["[MASK]"], "a string, or an object whose content is one"),
    (CONFIG, "pad_token", {"content": 3}, "a string, or an object whose content is one"),
    (CONFIG, "pad_token", {"content": "x", "lstrip": "yes"}, "true or false"),
    (CONFIG, "cls_token", "", "a string that is not empty"),
    (CONFIG, "sep_token", "\ud800", "text without lone surrogates"),
    (CONFIG, "additional_special_tokens", "x", "a list of pieces, or an object of them"),
    (CONFIG, "extra_special_tokens", [3], "a string, or an object whose content is one"),
    (CONFIG, "added_tokens_decoder", ["x"], "an object"),
    (CONFIG, "added_tokens_decoder", {"x": "x"}, "a whole number of at least 0"),
    (CONFIG, "added_tokens_decoder", {"3": 3}, "a string, or an object whose content is one"),
    (CONFIG, "model_input_names", 5, "a list"),
    (CONFIG, "model_input_names", [5], "a list of strings"),
    (CONFIG, "tokenizer_class", 5, "a string that is not empty"),
    (CONFIG, "truncation_side", "top", "right or left"),
    (CONFIG, "split_special_tokens", 2, "true or false"),
    (MAP, "mask_token", 3, "a string, or an object whose content is one"),
    (MAP, "additional_special_tokens", 3, "a list of pieces, or an object of them"),
    (ADDED, "<new>", "x", "a whole number of at least 0"),
    (ADDED, "<new>", -1, "a whole number of at least 0"),
    (ADDED, "<new>", None, "an id that no other piece has"),
    ("config.json", "max_position_embeddings", "x", "a whole number of at least 1"),
]


@pytest.mark.parametrize(("name", "key", "value", "allowed"), WRONG)
def test_a_wrong_value_is_refused(folder, name, key, value, allowed):
    """Was: an AttributeError, a TypeError, an OverflowError, or silence ("no" was true).
    Right: one line that names the file, the key, the value and what is allowed."""
    with pytest.raises(ValueError, match=f"{name}: {key} is .*, but must be {allowed}; correct it"):
        load_tokenizer(changed(folder, name, key, value))


@pytest.mark.parametrize("key", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_a_wrong_flag_is_refused_where_it_counts(tmp_path, key):
    """Was: "no" lower-cased, since a string that is not empty is true.
    Right: refused for WordPiece; of no effect for bytes, as in transformers."""
    for kind, (tokenizer, without) in KINDS.items():
        path = tmp_path / kind
        tokenizer.save(path)
        (path / without).unlink() if without else None
        changed(path, CONFIG, key, "no")
        if kind in ("vocab.txt", "WordPiece"):
            with pytest.raises(ValueError, match=f"{key} is 'no', but must be true or false"):
                load_tokenizer(path)
        elif kind in ("merges.txt", "BPE"):
            load_tokenizer(path)


@given(name=st.sampled_from([CONFIG, MAP]), key=st.sampled_from(KEYS), value=values)
def test_any_value_is_read_or_refused_in_a_line(folder, name, key, value):
    """Was: 19 of 118 wrong values ended in a traceback.
    Right: whatever stands at a key, there is a tokenizer or a ValueError of one line."""
    try:
        load_tokenizer(changed(folder, name, key, value))
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 500


@pytest.mark.parametrize("name", [CONFIG, MAP, ADDED, "tokenizer.json", "config.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '"a"', "[" * 100_000, '{"a":' * 100_000, "\xff"])
def test_no_json_object(folder, name, text):
    """Was: brackets that are nested deeply ended in a RecursionError.
    Right: a file that is no JSON object is refused by name."""
    changed(folder, ADDED, "x", 0)
    (folder / ADDED).unlink()
    kept = (folder / name).read_bytes() if (folder / name).exists() else None
    (folder / name).write_bytes(text.encode("latin-1"))
    try:
        with pytest.raises(
            ValueError, match=f"{name} (is not JSON|must hold|is nested|is not a t)"
        ):
            load_tokenizer(folder)
    finally:
        (folder / name).unlink()
        if kept:
            (folder / name).write_bytes(kept)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vocab.json", '{"a": 0, "b": "x"}', "b is 'x', but must be a whole number of at least 0"),
        ("vocab.json", '{"a": 0, "b": 0}', "vocab.json: each piece needs an id of its own"),
        ("vocab.json", '{"a": null}', "vocab.json: each piece needs an id of its own"),
        ("merges.txt", "a b c\n", r"merges.txt is not a tokenizer \(.*\); save it again"),
        ("merges.txt", "zz qq\n", r"merges.txt is not a tokenizer \(.*out of vocabulary.*\)"),
    ],
)
def test_pairs_of_bytes(tmp_path, name, text, message):
    """Was: a piece of vocab.json whose id is no number was left out in silence.
    Right: refused by name."""
    byte_pairs().save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_fails_on_text(tmp_path):
    """Was: a model without its unknown piece ended in an Exception at the first unknown word.
    Right: refused when it is loaded, in one line."""
    KINDS["WordPiece"][0].save(tmp_path)
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["model"]["unk_token"] = "<nowhere>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"uses .<nowhere>. where tokenizer_config\.json says"):
        load_tokenizer(tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(ValueError, match=r"tokenizer.json is not a tokenizer \(WordPiece error"):
        load_tokenizer(tmp_path)


def test_files_that_contradict_each_other(tmp_path):
    """Was: texts began with the [CLS] of tokenizer.json, and "the first token" was another one.
    Right: refused; transformers' versions 4 and 5 read such a folder in two ways."""
    KINDS["WordPiece"][0].save(tmp_path)
    with pytest.raises(
        ValueError, match=r"uses '\[CLS\]' where .* the cls_token is 'fox'; correct"
    ):
        load_tokenizer(changed(tmp_path, CONFIG, "cls_token", "fox"))
    unigrams().save(tmp_path / "albert")
    with pytest.raises(ValueError, match="do_lower_case is False, but must be True, as tokenizer"):
        load_tokenizer(changed(tmp_path / "albert", CONFIG, "do_lower_case", False))


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    """Was: a traceback and exit code 1.
    Right: exit code 2 and one line."""
    KINDS["WordPiece"][0].save(tmp_path)
    (tmp_path / CONFIG).write_text('{"mask_token": 3}')
    argv = ["pretrain", "--tokenizer", str(tmp_path), "--data", __file__, "--out"]
    assert main([*argv, str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "mask_token is 3, but must be a string" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
